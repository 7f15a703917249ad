"""The bytes of one file, read once and safely: regular files only, never through a link, never half replaced."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import ParseFailed, ParseSkipped

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file's bytes and what they were when read.

    Attributes:
        data: All of its bytes.
        sha256: Hex digest of ``data``.
        size: ``len(data)``.
        mtime_ns: Modification time in nanoseconds, the same before and after reading.
    """

    data: bytes
    sha256: str
    size: int
    mtime_ns: int


def read_source(path: str, max_bytes: int) -> Source:
    """Read a file whole; a file that changes meanwhile is read once more.

    Raises:
        ParseSkipped: It is not a regular file, or larger than ``max_bytes``.
        ParseFailed: It cannot be opened or read, or changed during both readings.
    """
    try:
        return _read(path, max_bytes) or _read(path, max_bytes) or _changing()
    except OSError as error:
        raise _unreadable(error) from error


def read_head(path: str, length: int) -> bytes:
    """The first ``length`` bytes, with the errors of ``read_source``."""
    try:
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            _regular(os.fstat(descriptor))
            return stream.read(length) or b""
    except OSError as error:
        raise _unreadable(error) from error


def _read(path: str, max_bytes: int) -> Source | None:
    """One reading, None when the file changed under it."""
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = _regular(os.fstat(descriptor))
        if before.st_size > max_bytes:
            raise ParseSkipped(f"larger than the limit of {max_bytes / 1e6:.0f} MB")
        digest, blocks, size = hashlib.sha256(), [], 0
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > max_bytes:
                raise ParseSkipped(f"larger than the limit of {max_bytes / 1e6:.0f} MB")
            digest.update(block)
            blocks.append(block)
        after, named = os.fstat(descriptor), Path(path).lstat()
    same = _version(before) == _version(after) == _version(named) and size == after.st_size
    return Source(b"".join(blocks), digest.hexdigest(), size, after.st_mtime_ns) if same else None


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise ParseSkipped("not a regular file")
    return status


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changing() -> Source:
    raise ParseFailed("the file keeps changing while it is read; it is read again when it rests")


def _unreadable(error: OSError) -> ParseFailed:
    if isinstance(error, FileNotFoundError):
        return ParseFailed("the file is gone")
    if isinstance(error, PermissionError):
        return ParseFailed("permission denied: give this user the right to read the file")
    if error.errno == errno.ELOOP:
        return ParseSkipped("a symbolic link; links are not followed")
    return ParseFailed(f"the file cannot be read: {error.strerror or error}")
