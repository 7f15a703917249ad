"""Puts our entry into a client's configuration file, or removes it; files are replaced atomically, with a backup."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mcp_server.clients import edit
from mcp_server.clients.entry import (
    NAME,
    ClientError,
    Launch,
    Unparsable,
    check_arguments,
    check_name,
    folders_of,
    is_ours,
    launch_of,
    limits_of,
    line_and_column,
)
from mcp_server.clients.registry import Client

Action = Literal["added", "updated", "unchanged", "removed", "absent", "would add", "would update"]


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a client's configuration.

    Attributes:
        action: What was done.
        file: The file, symbolic links followed.
        name: The entry's name.
        entry: The entry; None where there is none any more.
        copy: The backup of the file; None where nothing was written, or there was no file.
    """

    action: Action
    file: Path
    name: str
    entry: dict[str, Any] | None
    copy: Path | None = None


def install(client: Client, file: Path, launch: Launch, name: str | None = None, *, write: bool = True) -> Change:
    """Put our entry into a client's configuration, or update the existing one.

    Args:
        client: The client.
        file: Its configuration file.
        launch: The command. Where it names no folder, those of an existing entry are kept.
        name: The entry's name; None for that of an existing entry of ours, otherwise ``folder-mcp``.
        write: False to find out only what would be done.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(MAX_TRIES):
        try:
            return _with_file_name(file, lambda: _install(client, file, launch, name, write=write))
        except ChangedMeanwhile:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def uninstall(client: Client, file: Path, name: str | None = None) -> Change:
    """Remove our entry from a client's configuration.

    Where the file is byte for byte what ``install`` wrote, it gets its former bytes back; a file that we created and
    that has nothing else is removed. Otherwise only our entry is removed.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(MAX_TRIES):
        try:
            return _with_file_name(file, lambda: _uninstall(client, file, name))
        except ChangedMeanwhile:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def snippet(client: Client, name: str, entry: dict[str, Any]) -> str:
    """Return a configuration file of the client with nothing but the entry."""
    return edit.put_entry(client.format, "", [*client.table, name], entry)


def _install(client: Client, file: Path, launch: Launch, name: str | None, *, write: bool) -> Change:
    current = read_config_file(file)
    servers = edit.find_entry(client.format, current.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is not None and not is_ours(before):
        raise ClientError(f"{chosen!r} is there and starts something else; choose another --name")
    check_arguments(launch, client.expands, client.title)
    entry = client.entry(_with_folders(launch, before), chosen)
    text = edit.put_entry(client.format, current.text, [*client.table, chosen], entry)
    if text == current.text:
        return Change("unchanged", current.path, chosen, entry)
    if not write:
        return Change("would update" if before else "would add", current.path, chosen, entry)
    copy = write_config_file(current, current.encode(text))
    return Change("updated" if before else "added", current.path, chosen, entry, copy)


def _uninstall(client: Client, file: Path, name: str | None) -> Change:
    current = read_config_file(file)
    servers = edit.find_entry(client.format, current.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is None:
        return Change("absent", current.path, chosen, None)
    if not is_ours(before):
        raise ClientError(f"{chosen!r} starts something else, and was left alone")
    path = [*client.table, chosen]
    data = _original(client, current, path)
    if data is None and current.data == edit.put_entry(client.format, "", path, before).encode():
        remove_config_file(current)
        return Change("removed", current.path, chosen, None)
    copy = write_config_file(
        current, current.encode(edit.remove_entry(client.format, current.text, path)) if data is None else data
    )
    return Change("removed", current.path, chosen, None, copy)


def _original(client: Client, current: ConfigFile, path: list[str]) -> bytes | None:
    """Return the file's bytes before our entry was put in, if nobody else has written it since; None otherwise."""
    pending, seen = [current.data or b""], set[bytes]()
    while pending:  # an entry that was updated has several backups, one leading to the next
        data = pending.pop()
        if data in seen or not data.startswith(current.bom):
            continue
        seen.add(data)
        try:
            text = data[len(current.bom) :].decode()
            if edit.find_entry(client.format, text, path) is not None:
                pending += earlier_contents(current.path, data)
            elif edit.differ_by_entry_only(client.format, text, current.text, path):
                return data
        except (ClientError, UnicodeDecodeError):  # somebody has changed the backup
            continue
    return None


def _own_name(servers: Any) -> str:
    """Return the name of the existing entry of ours, if there is exactly one; otherwise ``folder-mcp``."""
    ours = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return ours[0] if len(ours) == 1 and NAME not in ours else NAME


def _with_folders(launch: Launch, before: Any) -> Launch:
    """Add the folders of the existing entry when none are named; if they are all it may see, they stay that."""
    existing = launch_of(before) if isinstance(before, dict) else None
    if folders_of(launch) or existing is None:
        return launch
    return Launch(launch.command, (*launch.args, *limits_of(existing), *folders_of(existing)), launch.env, launch.cwd)


def _with_file_name(file: Path, do: Callable[[], Change]) -> Change:
    """Do it, and name the file in errors."""
    try:
        return do()
    except Unparsable as error:
        raise ClientError(
            f"{file}, {error}. It was left as it is: correct that place, or see the entry to add by hand with --print"
        ) from error
    except ChangedMeanwhile:
        raise
    except ClientError as error:
        if str(file) in str(error):
            raise
        raise ClientError(f"{file}: {error}") from error


# Atomic edits -------------------------------------------------------------------------------------------------------
# The file belongs to the client: it is replaced as a whole or not at all, with a backup beside it.

BACKUP = ".bak-"
MAX_TRIES = 5
"""How often a change is repeated because the client wrote its file meanwhile."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as it was read.

    Attributes:
        path: Symbolic links followed.
        data: Its bytes; None when there is no file.
        bom: Its byte order mark, or nothing.
        text: The text after the byte order mark, line endings as they are.
    """

    path: Path
    data: bytes | None
    bom: bytes
    text: str

    def encode(self, text: str) -> bytes:
        """Return the bytes of this file with another text."""
        return self.bom + text.encode()


def read_config_file(path: Path) -> ConfigFile:
    """Read a file; a missing one is empty.

    Raises:
        Unparsable: It is not UTF-8.
        ClientError: It cannot be read.
    """
    real = Path(os.path.realpath(path))
    try:
        data = real.read_bytes()
    except FileNotFoundError:
        return ConfigFile(real, None, b"", "")
    except OSError as error:
        raise ClientError(f"{real} cannot be read: {error.strerror}") from error
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    try:
        return ConfigFile(real, data, bom, data[len(bom) :].decode())
    except UnicodeDecodeError as error:
        line, column = line_and_column(data[: error.start].decode("latin-1"), error.start)
        raise Unparsable("not UTF-8; save it as UTF-8", line, column) from None


def write_config_file(current: ConfigFile, data: bytes) -> Path | None:
    """Replace a file's bytes, if they are still those that were read.

    The new bytes are synced to disk and then replace the old ones atomically; mode and owner stay. The old bytes are
    written to a backup beside the file first, whose name ends with a checksum of the new ones (``earlier_contents``).

    Returns:
        The backup; None where there was no file.

    Raises:
        Changed: Somebody wrote the file meanwhile. Nothing was written.
        ClientError: It cannot be written. The file is as it was.
    """
    try:
        current.path.parent.mkdir(parents=True, exist_ok=True)
        copy = _write_backup(current, data) if current.data is not None else None
        try:
            _replace_atomically(current, data)
        except BaseException:
            if copy:
                copy.unlink()
            raise
    except OSError as error:
        raise ClientError(f"{current.path} cannot be written: {error.strerror}; nothing was changed") from error
    return copy


def remove_config_file(current: ConfigFile) -> None:
    """Remove a file that this program created, if it is still as it was read.

    Raises:
        Changed: Somebody wrote it meanwhile.
        ClientError: It cannot be removed.
    """
    try:
        _check_unchanged(current)
        current.path.unlink()
    except OSError as error:
        raise ClientError(f"{current.path} cannot be removed: {error.strerror}") from error


def earlier_contents(path: Path, data: bytes) -> list[bytes]:
    """Return the contents that ``data`` replaced in a file, from its backups; the newest first."""
    pattern = f"{_escaped(path.name)}{BACKUP}*-{_checksum(data)}"
    found = sorted(path.parent.glob(pattern), key=lambda each: each.name, reverse=True)
    return [each.read_bytes() for each in found]


class ChangedMeanwhile(ClientError):
    """Another program wrote the file between our reading and our writing."""


def _replace_atomically(current: ConfigFile, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=current.path.parent, prefix=f".{current.path.name}.")
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            _copy_mode_and_owner(stream.fileno(), current)
            os.fsync(stream.fileno())
        _check_unchanged(current)
        os.replace(name, current.path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if os.name != "nt":  # the new name itself must survive a power cut
        folder = os.open(current.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy_mode_and_owner(descriptor: int, current: ConfigFile) -> None:
    """Give a new file the mode and the owner of the one it replaces."""
    if current.data is None or os.name == "nt":
        return
    was, now = current.path.stat(), os.fstat(descriptor)
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, was.st_mode & 0o7777)


def _check_unchanged(current: ConfigFile) -> None:
    if read_config_file(current.path).data != current.data:
        raise ChangedMeanwhile(f"{current.path} is being changed by somebody else; close the client and try again")


def _write_backup(current: ConfigFile, data: bytes) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    copy = current.path.with_name(f"{current.path.name}{BACKUP}{stamp}-{_checksum(data)}")
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(current.data or b"")
        stream.flush()
        _copy_mode_and_owner(stream.fileno(), current)
        os.fsync(stream.fileno())
    return copy


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _escaped(name: str) -> str:
    """Return a file name as a glob pattern that matches only itself."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in name)
