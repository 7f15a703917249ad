"""Checks of what the user has set up: configuration, background process, clients, folders, file watches."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from indexer.errors import ConfigError
from indexer.files.mounts import silent_parts
from indexer.folders.registry import folders_file_damage, list_folders
from mcp_server.access.access_file import ACCESS_FILE, AccessFileError, parse, read_text
from mcp_server.clients import edit, install
from mcp_server.clients.edit import FormatName
from mcp_server.clients.entry import ClientError, Unparsable, is_ours, launch_of
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import CLIENTS
from mcp_server.doctor.checks import CheckInputs, Finding, Settings
from mcp_server.doctor.machine import mounts_or_none
from mcp_server.processes import timing
from mcp_server.processes.handshake import HandshakeRefused, HandshakeTimeout, OwnerNotFound, dial, handshake_request
from mcp_server.processes.owner_lock import OwnerFiles, is_held, owner_files_for, passed_over_sentence
from mcp_server.state_files import read_state
from mcp_server.version import release


def check_configuration(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the configuration file."""
    return configuration_findings(inputs.settings)


def configuration_findings(settings: Settings) -> Iterator[Finding]:
    """Report whether the configuration is right, and where it is."""
    if settings.problem:
        remedy = "correct it as the message says; until then the other checks go by the defaults"
        yield Finding("configuration", "failure", settings.problem, remedy)
    elif settings.config.config_file is None:
        yield Finding("configuration", "ok", f"defaults; there is no file {settings.file}")
    else:
        yield Finding("configuration", "ok", f"{settings.config.config_file} is right")


def check_access(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the access tokens, where there are any."""
    return access_findings(inputs.settings.config.data_dir / ACCESS_FILE, time.time())


def access_findings(file: Path, now: float) -> Iterator[Finding]:
    """Report whether ``access.toml`` lets in whom it names; nothing when there is no such file.

    Args:
        file: The file; may be missing.
        now: Seconds since the epoch.
    """
    try:
        users = parse(read_text(file), file).users.values()
    except AccessFileError as error:
        yield Finding("access", "failure", str(error), "correct that place; until then only the owner's token counts")
        return
    over = [user.name for user in users if user.expires is not None and user.expires <= now]
    blind = [user.name for user in users if not user.folders]
    if over:
        yield Finding("access", "warning", f"tokens have expired: {', '.join(over)}", "folder-mcp access remove NAME")
    if blind:
        remedy = f"give them folders or groups in {file}, or take them out"
        yield Finding("access", "warning", f"tokens see no folder: {', '.join(blind)}", remedy)
    if users and not over and not blind:
        count = "1 token" if len(users) == 1 else f"{len(users)} tokens"
        yield Finding("access", "ok", f"{count} in {file}")


# Background ---------------------------------------------------------------------------------------------------------


def check_owner(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the background process that all clients share."""
    return owner_findings(lambda: owner_files_for(str(inputs.settings.config.data_dir)), release())


def owner_findings(locate_files: Callable[[], OwnerFiles], version: str) -> Iterator[Finding]:
    """Check whether the owner of the data directory is alive, answers, and has this version.

    Args:
        locate_files: Returns its files; raises ``OSError`` when it can have no private directory.
        version: Of this program.
    """
    name = "background process"
    try:
        files = locate_files()
    except OSError as error:
        remedy = "give this user a private directory for it; until then each client does everything by itself"
        yield Finding(name, "warning", f"it has nowhere to live: {error}", remedy)
        return
    if files.passed_over:
        remedy = "nothing, or have that directory removed by its owner or an administrator"
        yield Finding("runtime directory", "warning", passed_over_sentence(files), remedy)
    if not is_held(files):
        yield Finding(name, "ok", "none is running; the first client starts it")
        return
    state = read_state(files.state_file)
    pid, theirs = state.get("pid", "unknown"), str(state.get("version", "unknown"))
    if state.get("endpoint") is None:
        yield Finding(name, "ok", f"process {pid} uses the index by itself (folder-mcp {theirs})")
        return
    problem = _greet(files)
    if problem:
        yield Finding(name, "failure", f"process {pid} {problem}", "run: folder-mcp stop --force")
    elif theirs != version:
        detail = f"process {pid} is of version {theirs}, this is {version}"
        yield Finding(name, "warning", detail, "run: folder-mcp stop; the next client starts this version")
    else:
        yield Finding(name, "ok", f"process {pid} answers (folder-mcp {theirs})")


def _greet(files: OwnerFiles) -> str:
    """Connect to the owner; return what is wrong with its answer, empty when nothing is."""
    try:
        dial(files, handshake_request("check"), timing.CHECK_OWNER_S)[0].close()
    except HandshakeTimeout as silent:
        silent.connection.close()
        return "does not answer"
    except OwnerNotFound as error:
        return f"cannot be reached ({error})"
    except HandshakeRefused as error:
        return f"refuses ({error})"
    return ""


# Clients ------------------------------------------------------------------------------------------------------------

_TABLES = frozenset({"servers", *(client.table[-1] for client in CLIENTS.values())})
_REMEDY = "add it to a client: folder-mcp install CLIENT FOLDER; folder-mcp install lists them"


class ClientFile(NamedTuple):
    """A configuration file, which need not exist."""

    client: str
    file: Path
    form: FormatName


def check_clients(inputs: CheckInputs) -> Iterator[Finding]:
    """Check which MCP clients of this user have folder-mcp in their configuration."""
    return client_findings(client_files(inputs.machine, inputs.directory))


def client_files(machine: Machine, directory: Path) -> list[ClientFile]:
    """Return where the clients keep their configuration.

    Args:
        machine: The user's machine.
        directory: The working directory, for configurations of a project.
    """
    found = []
    for client in CLIENTS.values():
        try:
            found.append(ClientFile(client.title, client.file(machine), client.format))
        except ClientError:  # several files are possible: `folder-mcp install` reports that
            continue
    return [
        *found,
        ClientFile("Claude Code (project)", directory / ".mcp.json", "json"),
        ClientFile("Cursor (project)", directory / ".cursor" / "mcp.json", "json"),
        ClientFile("VS Code (project)", directory / ".vscode" / "mcp.json", "json"),
    ]


def client_findings(
    files: Sequence[ClientFile], which: Callable[[str], str | None] = shutil.which
) -> Iterator[Finding]:
    """Find this program in the clients' configurations, and check that what they start exists.

    Args:
        files: The configuration files.
        which: Finds a command on the path.
    """
    registered = False
    for client, file, form in files:
        try:
            servers = list(_our_servers(edit.FORMATS[form].load(install.read_config_file(file).text)))
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
        titles = ", ".join(dict.fromkeys(each.client.split(" (")[0] for each in files))
        yield Finding("clients", "warning", f"none of these names folder-mcp: {titles}", _REMEDY)


def _our_servers(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every entry of ours, at any depth: Claude Code also keeps servers by project."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in _TABLES and isinstance(value, dict):
                yield from ((name, server) for name, server in value.items() if is_ours(server))
            else:
                yield from _our_servers(value)
    elif isinstance(document, list):
        for item in document:
            yield from _our_servers(item)


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


def check_folders(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the indexed folders, and the list of them."""
    data_dir = inputs.settings.config.data_dir
    try:
        known = list_folders(inputs.settings.config)
    except ConfigError as error:
        yield Finding("folders", "failure", str(error), "correct or delete that file")
        return
    damage = folders_file_damage(data_dir)
    if damage:
        remedy = "start a client or run folder-mcp index: the copy is put in its place"
        yield Finding("folders", "warning", damage, remedy)
    yield from folder_findings(known.paths, known.refused, mounts_or_none())


def folder_findings(
    known: Sequence[str], refused: Sequence[str], mounts: Sequence[tuple[str, str]] | None
) -> Iterator[Finding]:
    """Check that each folder can be read, and is on a disk that reports changes.

    Args:
        known: Roots, absolute and resolved.
        refused: Why folders cannot be indexed, a sentence each.
        mounts: Mount points and their file system types, None when unknown.
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


# Watching -----------------------------------------------------------------------------------------------------------


def check_watches(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether the system allows as many file watches as the folders have directories (Linux)."""
    config = inputs.settings.config
    try:
        roots = list_folders(config).paths
    except ConfigError:  # the check of the folders reports it
        roots = ()
    return watch_findings(watch_limits(), roots, watch=config.index.watch)


INOTIFY = Path("/proc/sys/fs/inotify")
MIN_INSTANCES = 16
"""Watchers that a user should be allowed to have."""


def watch_limits(directory: Path = INOTIFY) -> tuple[int, int] | None:
    """Return ``max_user_watches`` and ``max_user_instances``; None where there are none."""
    try:
        watches = int((directory / "max_user_watches").read_text(encoding="ascii"))
        return watches, int((directory / "max_user_instances").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def count_directories(
    roots: Sequence[str], enough: int, clock: Callable[[], float] = time.monotonic
) -> tuple[int, bool]:
    """Count directories below the roots, links not followed; stops at ``enough``, or when the time is up.

    Returns:
        How many, and whether all were counted.
    """
    until, count = clock() + timing.CHECK_DIRECTORIES_S, 0
    for root in roots:
        for _, _, _ in os.walk(root):
            count += 1
            if count >= enough or clock() > until:
                return count, False
    return count, True


def watch_findings(
    limits: tuple[int, int] | None,
    roots: Sequence[str],
    *,
    watch: bool,
    count: Callable[[Sequence[str], int], tuple[int, bool]] = count_directories,
) -> Iterator[Finding]:
    """Compare the limits with the folders.

    Args:
        limits: Watches and instances that the system allows one user, None where it has no such limits.
        roots: The folders.
        watch: Whether folders are watched at all.
        count: Counts directories up to a number.
    """
    name = "file watches"
    if not watch:
        yield Finding(name, "ok", "folders are not watched (watch = false in [index])")
        return
    if limits is None:
        detail = "the limits cannot be read" if sys.platform == "linux" else "this system has no limit of its own"
        yield Finding(name, "ok", detail)
        return
    allowed, instances = limits
    counted, whole = count(roots, allowed)
    number = f"{counted:,}" if whole else f"at least {counted:,}"
    detail = f"{number} directories to watch, {allowed:,} watches allowed"
    if counted >= allowed:
        remedy = f"run: sudo sysctl fs.inotify.max_user_watches={max(2 * counted, 524_288)}"
        yield Finding(name, "failure", f"{detail}: the rest is compared at each rescan only", remedy)
    elif counted > allowed // 2:
        remedy = "other programs share the limit; raise fs.inotify.max_user_watches with sysctl"
        yield Finding(name, "warning", detail, remedy)
    else:
        yield Finding(name, "ok", detail)
    if instances < max(MIN_INSTANCES, 2 * len(roots)):
        remedy = "run: sudo sysctl fs.inotify.max_user_instances=512"
        yield Finding("file watchers", "warning", f"{instances} allowed, one is needed for each folder", remedy)
