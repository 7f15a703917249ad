"""The MCP clients of this user: which have folder-mcp in their configuration, and whether what they start is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mcp_server.clients import forms, kept_file
from mcp_server.clients.entry import is_ours, launch_of
from mcp_server.clients.errors import ClientError, Unparsable
from mcp_server.clients.forms import FormName
from mcp_server.clients.known import CLIENTS
from mcp_server.clients.machine import Machine
from mcp_server.doctor.finding import Finding

_TABLES = frozenset({"servers", *(client.table[-1] for client in CLIENTS.values())})
_REMEDY = "add it to a client: folder-mcp install CLIENT FOLDER; folder-mcp install lists them"


class Place(NamedTuple):
    """A configuration file, which need not exist."""

    client: str
    file: Path
    form: FormName


def places(machine: Machine, work: Path) -> list[Place]:
    """Where the clients keep their configuration.

    Args:
        machine: Where to look.
        work: The working directory, for configurations of a project.
    """
    found = []
    for client in CLIENTS.values():
        try:
            found.append(Place(client.title, client.file(machine), client.form))
        except ClientError:  # several files could be it: `folder-mcp install` says so, where it matters
            continue
    return [
        *found,
        Place("Claude Code (project)", work / ".mcp.json", "json"),
        Place("Cursor (project)", work / ".cursor" / "mcp.json", "json"),
        Place("VS Code (project)", work / ".vscode" / "mcp.json", "json"),
    ]


def clients(found: Sequence[Place], which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    """Look for this program in the clients' configurations.

    Args:
        found: Where to look.
        which: Finds a command on the path.
    """
    registered = False
    for client, file, form in found:
        try:
            servers = list(_servers(forms.FORMS[form].read(kept_file.read(file).text)))
        except Unparsable as error:
            yield Finding(f"client {client}", "warning", f"{file} cannot be understood: {error}", "correct that place")
            continue
        except ClientError as error:
            yield Finding(f"client {client}", "warning", str(error), "make it readable")
            continue
        for name, server in servers:
            registered = True
            yield _registered(client, file, name, server, which)
    if not registered:
        looked = ", ".join(dict.fromkeys(place.client.split(" (")[0] for place in found))
        yield Finding("clients", "warning", f"none of these names folder-mcp: {looked}", _REMEDY)


def _servers(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every server of ours, at any depth: Claude Code also keeps servers by project."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in _TABLES and isinstance(value, dict):
                yield from ((name, server) for name, server in value.items() if is_ours(server))
            else:
                yield from _servers(value)
    elif isinstance(document, list):
        for item in document:
            yield from _servers(item)


def _registered(
    client: str, file: Path, name: str, server: dict[str, Any], which: Callable[[str], str | None]
) -> Finding:
    launch = launch_of(server)
    command = launch.command if launch else ""
    known = os.path.isfile(command) if os.path.isabs(command) else which(command)
    if not known and "${" not in command:
        detail = f"{file} starts {command!r} as {name!r}, which is not there"
        return Finding(f"client {client}", "failure", detail, "folder-mcp install CLIENT writes the full path there")
    if not os.path.isabs(command) and "${" not in command:
        detail = f"{name!r} in {file} (found as {known}; clients may search another path than this shell)"
        return Finding(f"client {client}", "ok", detail)
    return Finding(f"client {client}", "ok", f"{name!r} in {file}")
