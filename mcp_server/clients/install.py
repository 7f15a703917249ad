"""Puts our entry into a client's configuration, or takes it out: the whole of it, files included."""

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
    check_name,
    check_words,
    folders_of,
    is_ours,
    launch_of,
    place_of,
)
from mcp_server.clients.registry import Client

Action = Literal["added", "updated", "unchanged", "removed", "absent", "would add", "would update"]


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a client's configuration.

    Attributes:
        action: What.
        file: The file, links followed.
        name: The entry's name.
        entry: The entry; None where it is gone.
        copy: The copy of what the file was; None where nothing was written, or there was no file.
    """

    action: Action
    file: Path
    name: str
    entry: dict[str, Any] | None
    copy: Path | None = None


def install(client: Client, file: Path, launch: Launch, name: str | None = None, *, write: bool = True) -> Change:
    """Put our entry into a client's configuration, or bring the one that is there up to date.

    Args:
        client: Whose.
        file: Its file.
        launch: What it is to start. Where it names no folder, those of an entry that is there are kept.
        name: The entry's name; that of an entry of ours that is there, otherwise ``folder-mcp``.
        write: False to see only what would be done.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(TRIES):
        try:
            return _explained(file, lambda: _install(client, file, launch, name, write=write))
        except Changed:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def uninstall(client: Client, file: Path, name: str | None = None) -> Change:
    """Take our entry out of a client's configuration.

    Where the file is byte for byte what ``install`` wrote, it becomes what it was before; a file that holds nothing
    but what we made is removed. Otherwise our entry alone is taken out.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(TRIES):
        try:
            return _explained(file, lambda: _uninstall(client, file, name))
        except Changed:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def snippet(client: Client, name: str, entry: dict[str, Any]) -> str:
    """Return the entry as a file of the client's would hold it that had nothing else."""
    return edit.put(client.form, "", [*client.table, name], entry)


def _install(client: Client, file: Path, launch: Launch, name: str | None, *, write: bool) -> Change:
    kept = read(file)
    servers = edit.find(client.form, kept.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is not None and not is_ours(before):
        raise ClientError(f"{chosen!r} is there and starts something else; choose another --name")
    check_words(launch, client.expands, client.title)
    entry = client.entry(_with_folders(launch, before), chosen)
    text = edit.put(client.form, kept.text, [*client.table, chosen], entry)
    if text == kept.text:
        return Change("unchanged", kept.path, chosen, entry)
    if not write:
        return Change("would update" if before else "would add", kept.path, chosen, entry)
    copy = replace(kept, kept.encoded(text))
    return Change("updated" if before else "added", kept.path, chosen, entry, copy)


def _uninstall(client: Client, file: Path, name: str | None) -> Change:
    kept = read(file)
    servers = edit.find(client.form, kept.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is None:
        return Change("absent", kept.path, chosen, None)
    if not is_ours(before):
        raise ClientError(f"{chosen!r} starts something else, and was left alone")
    path = [*client.table, chosen]
    data = _original(client, kept, path)
    if data is None and kept.data == edit.put(client.form, "", path, before).encode():
        remove(kept)
        return Change("removed", kept.path, chosen, None)
    copy = replace(kept, kept.encoded(edit.take(client.form, kept.text, path)) if data is None else data)
    return Change("removed", kept.path, chosen, None, copy)


def _original(client: Client, kept: Kept, path: list[str]) -> bytes | None:
    """Return what the file held before our entry came, if nobody else has written it since; None otherwise."""
    waiting, seen = [kept.data or b""], set[bytes]()
    while waiting:  # an entry that was brought up to date has several copies, one leading to the next
        data = waiting.pop()
        if data in seen or not data.startswith(kept.mark):
            continue
        seen.add(data)
        try:
            text = data[len(kept.mark) :].decode()
            if edit.find(client.form, text, path) is not None:
                waiting += former(kept.path, data)
            elif edit.differ_by_entry_only(client.form, text, kept.text, path):
                return data
        except (ClientError, UnicodeDecodeError):  # somebody has changed the copy
            continue
    return None


def _own_name(servers: Any) -> str:
    """Return the name of the entry of ours, where there is one only; otherwise our own."""
    ours = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return ours[0] if len(ours) == 1 and NAME not in ours else NAME


def _with_folders(launch: Launch, before: Any) -> Launch:
    """Keep the folders of the entry that is there when none are named."""
    there = launch_of(before) if isinstance(before, dict) else None
    if folders_of(launch) or there is None:
        return launch
    return Launch(launch.command, (*launch.args, *folders_of(there)), launch.env, launch.cwd)


def _explained(file: Path, do: Callable[[], Change]) -> Change:
    """Do it, and name the file in what goes wrong."""
    try:
        return do()
    except Unparsable as error:
        raise ClientError(
            f"{file}, {error}. It was left as it is: correct that place, or see the entry to add by hand with --print"
        ) from error
    except Changed:
        raise
    except ClientError as error:
        if str(file) in str(error):
            raise
        raise ClientError(f"{file}: {error}") from error


# Atomic edits -------------------------------------------------------------------------------------------------------
# A file of somebody else's: read exactly, replaced whole or not at all, with a copy of what it was beside it.

BACKUP = ".bak-"
TRIES = 5
"""How often a change is made anew because the client wrote its file meanwhile."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds.

    Attributes:
        path: Where it is, links followed.
        data: Its bytes; None when there is no file.
        mark: Its byte order mark, or nothing.
        text: The text after the mark, line endings as they are.
    """

    path: Path
    data: bytes | None
    mark: bytes
    text: str

    def encoded(self, text: str) -> bytes:
        """Return another text as this file would hold it."""
        return self.mark + text.encode()


def read(path: Path) -> Kept:
    """Read a file; a missing one is empty.

    Raises:
        Unparsable: It is not UTF-8.
        ClientError: It cannot be read.
    """
    real = Path(os.path.realpath(path))
    try:
        data = real.read_bytes()
    except FileNotFoundError:
        return Kept(real, None, b"", "")
    except OSError as error:
        raise ClientError(f"{real} cannot be read: {error.strerror}") from error
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    try:
        return Kept(real, data, mark, data[len(mark) :].decode())
    except UnicodeDecodeError as error:
        line, column = place_of(data[: error.start].decode("latin-1"), error.start)
        raise Unparsable("not UTF-8; save it as UTF-8", line, column) from None


def replace(kept: Kept, data: bytes) -> Path | None:
    """Replace a file's bytes, if it still holds what was read.

    The new bytes are on the disk before they take the old ones' place, in one step; mode and owner stay. The old
    bytes go into a copy beside the file first, whose name ends with a checksum of the new ones (``former``).

    Returns:
        The copy; None where there was no file.

    Raises:
        Changed: Somebody wrote the file meanwhile. Nothing was written.
        ClientError: It cannot be written. The file is as it was.
    """
    try:
        kept.path.parent.mkdir(parents=True, exist_ok=True)
        copy = _copy(kept, data) if kept.data is not None else None
        try:
            _swap(kept, data)
        except BaseException:
            if copy:
                copy.unlink()
            raise
    except OSError as error:
        raise ClientError(f"{kept.path} cannot be written: {error.strerror}; nothing was changed") from error
    return copy


def remove(kept: Kept) -> None:
    """Remove a file that this program made, if it still holds what was read.

    Raises:
        Changed: Somebody wrote it meanwhile.
        ClientError: It cannot be removed.
    """
    try:
        _see_unchanged(kept)
        kept.path.unlink()
    except OSError as error:
        raise ClientError(f"{kept.path} cannot be removed: {error.strerror}") from error


def former(path: Path, data: bytes) -> list[bytes]:
    """Return what a file held when ``replace`` wrote some bytes into it, by the copies there are; the newest first."""
    pattern = f"{_escaped(path.name)}{BACKUP}*-{_checksum(data)}"
    found = sorted(path.parent.glob(pattern), key=lambda each: each.name, reverse=True)
    return [each.read_bytes() for each in found]


class Changed(ClientError):
    """Somebody else wrote the file between our reading and our writing."""


def _swap(kept: Kept, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=kept.path.parent, prefix=f".{kept.path.name}.")
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            _as_before(stream.fileno(), kept)
            os.fsync(stream.fileno())
        _see_unchanged(kept)
        os.replace(name, kept.path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if os.name != "nt":  # the new name itself must survive a power cut
        folder = os.open(kept.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _as_before(descriptor: int, kept: Kept) -> None:
    """Give a new file the mode and the owner of the one it replaces."""
    if kept.data is None or os.name == "nt":
        return
    was, now = kept.path.stat(), os.fstat(descriptor)
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, was.st_mode & 0o7777)


def _see_unchanged(kept: Kept) -> None:
    if read(kept.path).data != kept.data:
        raise Changed(f"{kept.path} is being changed by somebody else; close the client and try again")


def _copy(kept: Kept, data: bytes) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    copy = kept.path.with_name(f"{kept.path.name}{BACKUP}{stamp}-{_checksum(data)}")
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(kept.data or b"")
        stream.flush()
        _as_before(stream.fileno(), kept)
        os.fsync(stream.fileno())
    return copy


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _escaped(name: str) -> str:
    """Return a file name as a pattern that means only itself."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in name)
