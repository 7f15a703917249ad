"""A file of somebody else's: read exactly, replaced whole or not at all, with a copy of what it was beside it."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mcp_server.clients.errors import ClientError, Unparsable, place_of

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
