"""Small JSON files by which processes inform each other: written atomically, readable by the user alone.

Standard library only: a relay reads one of them first.
"""

from __future__ import annotations

import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write_state(path: str, document: dict[str, Any]) -> None:
    """Replace a state file atomically.

    Raises:
        OSError: The old file stays.
    """
    new = f"{path}.{os.getpid()}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


MAX_STATE = 1_000_000
"""Bytes of a state file; a longer one is none of ours."""


def read_state(path: str) -> dict[str, Any]:
    """Return the content of a state file; empty when it is missing, no regular file, too long, or no JSON object."""
    try:
        document = json.loads(read_regular_file(path, MAX_STATE))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read_regular_file(path: str, limit: int) -> bytes:
    """Read a small file, whatever somebody put in its place: a pipe does not block, and a link is not followed.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        OSError: It is missing, a link, or no regular file.
        ValueError: It is longer.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no regular file")
        parts = []
        while data := os.read(fd, 65536):
            parts.append(data)
            limit -= len(data)
            if limit < 0:
                raise ValueError(f"{path} is too long")
        return b"".join(parts)
    finally:
        os.close(fd)
