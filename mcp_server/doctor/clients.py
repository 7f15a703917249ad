"""The MCP clients of this user: which have folder-mcp in their configuration, and whether what they start is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mcp_server.doctor.finding import Finding

_OURS = re.compile(r"folder[-_]mcp|\bmcp_server\b")
_REMEDY = "add it to a client, for example: claude mcp add folder-mcp -- folder-mcp"


def places(home: Path, work: Path, platform: str = sys.platform) -> list[tuple[str, Path]]:
    """Where the clients keep their configuration.

    Args:
        home: The user's home directory.
        work: The working directory, for configurations of a project.
        platform: As ``sys.platform``.
    """
    if platform == "darwin":
        apps = home / "Library" / "Application Support"
    elif platform == "win32":
        apps = home / "AppData" / "Roaming"
    else:
        apps = home / ".config"
    return [
        ("Claude Desktop", apps / "Claude" / "claude_desktop_config.json"),
        ("Claude Code", home / ".claude.json"),
        ("Claude Code (project)", work / ".mcp.json"),
        ("Cursor", home / ".cursor" / "mcp.json"),
        ("Cursor (project)", work / ".cursor" / "mcp.json"),
        ("VS Code", apps / "Code" / "User" / "mcp.json"),
        ("VS Code (project)", work / ".vscode" / "mcp.json"),
    ]


def clients(found: Sequence[tuple[str, Path]], which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    """Look for this program in the clients' configurations.

    Args:
        found: Clients and their configuration files, which need not exist.
        which: Finds a command on the path.
    """
    registered = False
    for client, file in found:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            yield Finding(f"client {client}", "warning", f"{file} cannot be read: {error}", "make it readable")
            continue
        try:
            servers = list(_servers(parsed(text)))
        except ValueError as error:
            yield Finding(f"client {client}", "warning", f"{file} is not valid JSON: {error}", "correct that place")
            continue
        for name, server in servers:
            registered = True
            yield _registered(client, file, name, server, which)
    if not registered:
        looked = ", ".join(dict.fromkeys(client.split(" (")[0] for client, _ in found))
        yield Finding("clients", "warning", f"none of these names folder-mcp: {looked}", _REMEDY)


def parsed(text: str) -> Any:
    """Read JSON as clients write it: VS Code also takes comments and trailing commas.

    Raises:
        ValueError: It is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        string = r'"(?:\\.|[^"\\])*"'
        bare = re.sub(rf"({string})|//[^\n]*|/\*.*?\*/", lambda m: m[1] or " ", text, flags=re.DOTALL)
        return json.loads(re.sub(rf"({string})|,(?=\s*[\]}}])", lambda m: m[1] or "", bare))


def _servers(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every server of ours, at any depth: Claude Code also keeps servers by project."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("mcpServers", "servers") and isinstance(value, dict):
                for name, server in value.items():
                    if isinstance(server, dict) and _is_ours(server):
                        yield name, server
            else:
                yield from _servers(value)
    elif isinstance(document, list):
        for item in document:
            yield from _servers(item)


def _is_ours(server: dict[str, Any]) -> bool:
    args = server.get("args")
    words = [server.get("command"), *(args if isinstance(args, list) else [])]
    return any(isinstance(word, str) and _OURS.search(word) for word in words)


def _registered(
    client: str, file: Path, name: str, server: dict[str, Any], which: Callable[[str], str | None]
) -> Finding:
    command = str(server.get("command", ""))
    known = os.path.isfile(command) if os.path.isabs(command) else which(command)
    if not known and "${" not in command:
        detail = f"{file} starts {command!r} as {name!r}, which is not there"
        return Finding(f"client {client}", "failure", detail, "write the full path of folder-mcp there")
    if not os.path.isabs(command) and "${" not in command:
        detail = f"{name!r} in {file} (found as {known}; clients may search another path than this shell)"
        return Finding(f"client {client}", "ok", detail)
    return Finding(f"client {client}", "ok", f"{name!r} in {file}")
