"""The clients we know, and how each of them differs from the others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.clients import entry
from mcp_server.clients import machine as machine_module
from mcp_server.clients.edit import FormName
from mcp_server.clients.entry import ClientError, Launch
from mcp_server.clients.machine import Machine

_BRACED = re.compile(r"\$\{")
_SHELL = re.compile(r"\$[A-Za-z_{]")


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        key: What people type.
        title: What it calls itself.
        file: Finds its configuration file, which need not exist.
        form: The file's form.
        table: Keys under which its servers stand.
        entry: Makes the entry from what is to be started and the entry's name.
        expands: What it would take for a variable in a word of the entry; None when it takes words as they are.
        commands: Programs that show it is here, when they are on the path.
        application: Its name among a Mac's applications.
        restart: What to do for it to see the change.
    """

    key: str
    title: str
    file: Callable[[Machine], Path]
    form: FormName
    table: tuple[str, ...]
    entry: Callable[[Launch, str], dict[str, Any]]
    expands: re.Pattern[str] | None
    commands: tuple[str, ...]
    application: str
    restart: str

    def found(self, machine: Machine) -> str:
        """Return what shows that this client is on a machine; empty when nothing does."""
        return next(filter(None, self._signs(machine)), "")

    def _signs(self, machine: Machine) -> Sequence[str]:
        file = self.file(machine)
        made = {
            "claude-code": [file.parent / ".claude"],
            "cline": [machine.home / ".cline", machine_module.cline_storage(machine)],
        }.get(self.key, [file.parent])
        bundles = [each / f"{self.application}.app" for each in machine.applications if self.application]
        there = [str(each) for each in (file, *made, *bundles) if each.exists()]
        return [*there, *(machine.which(each) or "" for each in self.commands)]


CLIENTS = {
    each.key: each
    for each in (
        Client(
            "claude-desktop", "Claude Desktop", machine_module.claude_desktop, "json", ("mcpServers",), entry.plain,
            None, (), "Claude", "Quit Claude Desktop (also from the tray or menu bar) and start it again.",
        ),
        Client(
            "claude-code", "Claude Code", machine_module.claude_code, "json", ("mcpServers",), entry.typed, _BRACED,
            ("claude",), "", "Start a new session of claude; /mcp shows the server.",
        ),
        Client(
            "cursor", "Cursor", machine_module.cursor, "json", ("mcpServers",), entry.plain, _BRACED,
            ("cursor",), "Cursor", "Open Settings > Tools & MCP and switch it on; restart Cursor if it is not there.",
        ),
        Client(
            "vscode", "VS Code", machine_module.vscode, "json", ("servers",), entry.typed, _BRACED,
            ("code",), "Visual Studio Code", "Run \"MCP: List Servers\" in the command palette and start it there.",
        ),
        Client(
            "windsurf", "Windsurf", machine_module.windsurf, "json", ("mcpServers",), entry.plain, _BRACED,
            ("windsurf",), "Windsurf", "Press the refresh button of the MCP servers in Cascade.",
        ),
        Client(
            "zed", "Zed", machine_module.zed, "json", ("context_servers",), entry.plain, None,
            ("zed", "zeditor"), "Zed", "Nothing: Zed reads its settings when they change.",
        ),
        Client(
            "gemini-cli", "Gemini CLI", machine_module.gemini_cli, "json", ("mcpServers",), entry.plain, _SHELL,
            ("gemini",), "", "Start gemini again; /mcp shows the server. It starts servers in trusted folders only.",
        ),
        Client(
            "codex", "Codex", machine_module.codex, "toml", ("mcp_servers",), entry.codex, None,
            ("codex",), "Codex", "Start codex again; /mcp shows the server.",
        ),
        Client(
            "goose", "Goose", machine_module.goose, "yaml", ("extensions",), entry.goose, _SHELL,
            ("goose",), "Goose", "Start a new session of goose.",
        ),
        Client(
            "cline", "Cline", machine_module.cline, "json", ("mcpServers",), entry.plain, None,
            ("cline",), "", "Nothing: Cline reads the file when it changes; otherwise reload the window.",
        ),
    )
}  # fmt: skip


def client(key: str) -> Client:
    """Return a client by what people type.

    Raises:
        ClientError: There is none of that name; says the nearest.
    """
    typed = key.lower().replace(" ", "-").replace("_", "-")
    if typed in CLIENTS:
        return CLIENTS[typed]
    near = difflib.get_close_matches(typed, CLIENTS, 1)
    hint = f"did you mean {near[0]!r}? All: " if near else "known are "
    raise ClientError(f"there is no client {key!r}; {hint}{', '.join(CLIENTS)}")
