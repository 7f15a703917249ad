"""The configuration: where it is looked for, whether it is right, and what to go by when it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from indexer.files.mounts import silent_parts
from mcp_server.clients import edit, install
from mcp_server.clients.edit import FormatName
from mcp_server.clients.entry import ClientError, Unparsable, is_ours, launch_of
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import CLIENTS
from mcp_server.doctor.finding import Finding
from mcp_server.processes import timing
from mcp_server.processes.handshake import HandshakeRefused, HandshakeTimeout, OwnerNotFound, dial, handshake_request
from mcp_server.processes.owner_lock import OwnerFiles, is_held, locate
from mcp_server.state_files import read_state


@dataclass(frozen=True, slots=True)
class Settings:
    """What the other checks go by.

    Attributes:
        config: The configuration; where it is wrong, the defaults with the flags and the environment.
        problem: What is wrong with it, empty when nothing.
        place: The file that is read, or would be.
    """

    config: Config
    problem: str
    place: str


def read(config_file: str | None, data_dir: str | None, environ: Mapping[str, str], place: str) -> Settings:
    """Read the configuration, or what can be had without it.

    Args:
        config_file: From ``--config``.
        data_dir: From ``--data-dir``.
        environ: The environment.
        place: The user's own configuration file.
    """
    shown = config_file or environ.get("FOLDER_MCP_CONFIG") or place
    named, chosen = Path(config_file) if config_file else None, Path(data_dir) if data_dir else None
    try:
        return Settings(load_config(named, data_dir=chosen, environ=environ), "", shown)
    except ConfigError as error:
        problem = str(error)
    try:
        return Settings(load_config(Path(os.devnull), data_dir=chosen, environ=environ), problem, shown)
    except ConfigError:  # the data directory itself is wrong
        where = locate(os.devnull, data_dir, environ).data_dir
        return Settings(Config(data_dir=Path(where)), problem, shown)


def configuration(settings: Settings) -> Iterator[Finding]:
    """Say whether the configuration is right, and where it is."""
    if settings.problem:
        remedy = "correct it as the message says; until then the other checks go by the defaults"
        yield Finding("configuration", "failure", settings.problem, remedy)
    elif settings.config.config_file is None:
        yield Finding("configuration", "ok", f"defaults; there is no file {settings.place}")
    else:
        yield Finding("configuration", "ok", f"{settings.config.config_file} is right")


# Background ---------------------------------------------------------------------------------------------------------
# The background process that all clients share: alive, answering, of this version.


def owner(place: Callable[[], OwnerFiles], version: str) -> Iterator[Finding]:
    """Look for the owner of the data directory and greet it.

    Args:
        place: Finds its files; raises ``OSError`` when it can have no private directory.
        version: Of this program.
    """
    name = "background process"
    try:
        where = place()
    except OSError as error:
        remedy = "give this user a private directory for it; until then each client does everything by itself"
        yield Finding(name, "warning", f"it has nowhere to live: {error}", remedy)
        return
    if not is_held(where):
        yield Finding(name, "ok", "none is running; the first client starts it")
        return
    note = read_state(where.state_file)
    pid, theirs = note.get("pid", "unknown"), str(note.get("version", "unknown"))
    if note.get("endpoint") is None:
        yield Finding(name, "ok", f"process {pid} uses the index by itself (folder-mcp {theirs})")
        return
    trouble = _greeted(where)
    if trouble:
        yield Finding(name, "failure", f"process {pid} {trouble}", "run: folder-mcp stop --force")
    elif theirs != version:
        detail = f"process {pid} is of version {theirs}, this is {version}"
        yield Finding(name, "warning", detail, "run: folder-mcp stop; the next client starts this version")
    else:
        yield Finding(name, "ok", f"process {pid} answers (folder-mcp {theirs})")


def _greeted(where: OwnerFiles) -> str:
    """What is wrong with the owner's answer, empty when nothing."""
    hello: dict[str, Any] = handshake_request("check")
    try:
        dial(where, hello, timing.CHECK_OWNER_S)[0].close()
    except HandshakeTimeout as silent:
        silent.connection.close()
        return "does not answer"
    except OwnerNotFound as error:
        return f"cannot be reached ({error})"
    except HandshakeRefused as error:
        return f"refuses ({error})"
    return ""


# Clients ------------------------------------------------------------------------------------------------------------
# The MCP clients of this user: which have folder-mcp in their configuration, and whether what they start is there.

_TABLES = frozenset({"servers", *(client.table[-1] for client in CLIENTS.values())})
_REMEDY = "add it to a client: folder-mcp install CLIENT FOLDER; folder-mcp install lists them"


class ClientFile(NamedTuple):
    """A configuration file, which need not exist."""

    client: str
    file: Path
    form: FormatName


def places(machine: Machine, work: Path) -> list[ClientFile]:
    """Where the clients keep their configuration.

    Args:
        machine: Where to look.
        work: The working directory, for configurations of a project.
    """
    found = []
    for client in CLIENTS.values():
        try:
            found.append(ClientFile(client.title, client.file(machine), client.format))
        except ClientError:  # several files could be it: `folder-mcp install` says so, where it matters
            continue
    return [
        *found,
        ClientFile("Claude Code (project)", work / ".mcp.json", "json"),
        ClientFile("Cursor (project)", work / ".cursor" / "mcp.json", "json"),
        ClientFile("VS Code (project)", work / ".vscode" / "mcp.json", "json"),
    ]


def clients(found: Sequence[ClientFile], which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    """Look for this program in the clients' configurations.

    Args:
        found: Where to look.
        which: Finds a command on the path.
    """
    registered = False
    for client, file, form in found:
        try:
            servers = list(_servers(edit.FORMATS[form].load(install.read_config_file(file).text)))
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


# Folders ------------------------------------------------------------------------------------------------------------
# The indexed folders: there, readable, and on a disk that reports changes.


def folders(
    known: Sequence[str], refused: Sequence[str], mounts: Sequence[tuple[str, str]] | None
) -> Iterator[Finding]:
    """Look at each folder.

    Args:
        known: Roots, absolute and resolved.
        refused: Sentences about folders that cannot be indexed.
        mounts: Mount points and their file system types, None when they cannot be told.
    """
    for sentence in refused:
        yield Finding("folder", "failure", sentence, "correct it in the configuration, or remove the folder")
    if not known and not refused:
        yield Finding("folders", "warning", "no folder is indexed", "run: folder-mcp folders add FOLDER")
    for root in known:
        yield _folder(root, mounts)


def _folder(root: str, mounts: Sequence[tuple[str, str]] | None) -> Finding:
    name = f"folder {root}"
    try:
        with os.scandir(root) as listing:
            next(listing, None)
    except OSError as error:
        detail = f"cannot be reached ({error.strerror}); what was indexed stays searchable"
        return Finding(name, "failure", detail, "mount or restore it, or run: folder-mcp folders remove FOLDER")
    silent = silent_parts(root, mounts) if mounts is not None else ()
    if silent:
        where = "it is" if silent[0][0] == root else f"{silent[0][0]} is"
        detail = f"{where} on a {silent[0][1]} file system, which reports no changes: they are found at each rescan"
        return Finding(name, "warning", detail, "nothing, or lower rescan_minutes in [index]")
    return Finding(name, "ok", "can be read")
