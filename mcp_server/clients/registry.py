"""The MCP clients that are supported, and how they differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.clients.edit import FormatName
from mcp_server.clients.entry import ClientError, Launch, codex_entry, goose_entry, plain_entry, typed_entry
from mcp_server.clients.machine import (
    Machine,
    claude_code_file,
    claude_desktop_file,
    cline_file,
    cline_storage,
    codex_file,
    cursor_file,
    gemini_cli_file,
    goose_file,
    vscode_file,
    windsurf_file,
    zed_file,
)

_BRACED_VARIABLE = re.compile(r"\$\{")
_SHELL_VARIABLE = re.compile(r"\$[A-Za-z_{]")


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        key: Its name on the command line.
        title: Its own name.
        file: Finds its configuration file, which need not exist.
        format: Of the file.
        table: Keys of the table that has its servers.
        entry: Makes the entry from the command to start and the entry's name.
        expands: What it would expand as a variable in a word of the entry; None when it expands nothing.
        commands: Programs on the path that show that it is installed.
        application: Its name among a Mac's applications.
        restart: What the user does so that it reads the change.
    """

    key: str
    title: str
    file: Callable[[Machine], Path]
    format: FormatName
    table: tuple[str, ...]
    entry: Callable[[Launch, str], dict[str, Any]]
    expands: re.Pattern[str] | None
    commands: tuple[str, ...]
    application: str
    restart: str

    def found(self, machine: Machine) -> str:
        """Return the file or program that shows that this client is installed; empty when there is none."""
        return next(filter(None, self._signs(machine)), "")

    def _signs(self, machine: Machine) -> Sequence[str]:
        file = self.file(machine)
        directories = {
            "claude-code": [file.parent / ".claude"],
            "cline": [machine.home / ".cline", cline_storage(machine)],
        }.get(self.key, [file.parent])
        bundles = [each / f"{self.application}.app" for each in machine.applications if self.application]
        existing = [str(each) for each in (file, *directories, *bundles) if each.exists()]
        return [*existing, *(machine.which(each) or "" for each in self.commands)]


CLIENTS = {
    each.key: each
    for each in (
        Client(
            "claude-desktop", "Claude Desktop", claude_desktop_file, "json", ("mcpServers",), plain_entry,
            None, (), "Claude", "Quit Claude Desktop (also from the tray or menu bar) and start it again.",
        ),
        Client(
            "claude-code", "Claude Code", claude_code_file, "json", ("mcpServers",), typed_entry, _BRACED_VARIABLE,
            ("claude",), "", "Start a new session of claude; /mcp shows the server.",
        ),
        Client(
            "cursor", "Cursor", cursor_file, "json", ("mcpServers",), plain_entry, _BRACED_VARIABLE,
            ("cursor",), "Cursor", "Open Settings > Tools & MCP and switch it on; restart Cursor if it is not there.",
        ),
        Client(
            "vscode", "VS Code", vscode_file, "json", ("servers",), typed_entry, _BRACED_VARIABLE,
            ("code",), "Visual Studio Code", "Run \"MCP: List Servers\" in the command palette and start it there.",
        ),
        Client(
            "windsurf", "Windsurf", windsurf_file, "json", ("mcpServers",), plain_entry, _BRACED_VARIABLE,
            ("windsurf",), "Windsurf", "Press the refresh button of the MCP servers in Cascade.",
        ),
        Client(
            "zed", "Zed", zed_file, "json", ("context_servers",), plain_entry, None,
            ("zed", "zeditor"), "Zed", "Nothing: Zed reads its settings when they change.",
        ),
        Client(
            "gemini-cli", "Gemini CLI", gemini_cli_file, "json", ("mcpServers",), plain_entry, _SHELL_VARIABLE,
            ("gemini",), "", "Start gemini again; /mcp shows the server. It starts servers in trusted folders only.",
        ),
        Client(
            "codex", "Codex", codex_file, "toml", ("mcp_servers",), codex_entry, None,
            ("codex",), "Codex", "Start codex again; /mcp shows the server.",
        ),
        Client(
            "goose", "Goose", goose_file, "yaml", ("extensions",), goose_entry, _SHELL_VARIABLE,
            ("goose",), "Goose", "Start a new session of goose.",
        ),
        Client(
            "cline", "Cline", cline_file, "json", ("mcpServers",), plain_entry, None,
            ("cline",), "", "Nothing: Cline reads the file when it changes; otherwise reload the window.",
        ),
    )
}  # fmt: skip


def client(key: str) -> Client:
    """Return a client by its name on the command line.

    Raises:
        ClientError: There is no client of that name; says the nearest.
    """
    typed = key.lower().replace(" ", "-").replace("_", "-")
    if typed in CLIENTS:
        return CLIENTS[typed]
    near = difflib.get_close_matches(typed, CLIENTS, 1)
    hint = f"did you mean {near[0]!r}? All: " if near else "known are "
    raise ClientError(f"there is no client {key!r}; {hint}{', '.join(CLIENTS)}")
