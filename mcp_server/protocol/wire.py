"""The protocol's two file descriptors, duplicated and replaced before any other code can write to them.

Standard library only: this runs first.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

if sys.platform != "win32":
    import fcntl


@dataclass(frozen=True, slots=True)
class Wire:
    """Private duplicates of stdin and stdout, and the parent process.

    Attributes:
        read: File descriptor the client writes to.
        write: File descriptor the client reads from.
        parent: Process id of the parent at start.
    """

    read: int
    write: int
    parent: int


def claim_wire() -> Wire:
    """Move the protocol to private descriptors; from now on fd 0 is empty and fd 1 is stderr.

    A stray ``print``, a library's progress bar or a child process then cannot reach the client, nor can anything
    read the client's messages.

    Raises:
        OSError: stdin or stdout is closed.
    """
    parent = os.getppid()
    read, write = _above_standard(0), _above_standard(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        os.dup2(2, 1)
    except OSError:  # started without stderr
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.close(sink)
    return Wire(read, write, parent)


def _above_standard(fd: int) -> int:
    """Duplicate a descriptor to a number above 2 that children do not inherit."""
    if sys.platform == "win32":
        return os.dup(fd)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
