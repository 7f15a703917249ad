"""A relay's connection to whoever serves its client: the owner, or a server process of its own.

Standard library only. A thread reads lines and hands them on; sending is the caller's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import threading
import time

from mcp_server.processes.handshake import Line

TYPE_CHECKING = False  # by hand: a relay does without the module ``typing``

if TYPE_CHECKING:
    from typing import NoReturn


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Received = Callable[["Link", bytes], None]
    """Called with each line, and with nothing at the end; from the link's own thread."""

SEND_LIMIT = 10
"""Seconds after which an owner that takes nothing any more is given up."""


class Link:
    """One server. Use ``to_owner`` or ``to_process``.

    Attributes:
        owner: Whether it is the owner, and not a process of our own.
        notice: What the user should know of being served this way, empty when all is well.
    """

    def __init__(
        self,
        fd_in: int,
        write: Callable[[bytes], object],
        close: Callable[[], None],
        received: Received,
        *,
        owner: bool,
        rest: bytes = b"",
    ) -> None:
        self.owner = owner
        self._write = write
        self._close = close
        self._received = received
        self._thread = threading.Thread(target=self._read, args=(fd_in, rest), name="server", daemon=True)

    def start(self) -> None:
        """Begin to hand on lines."""
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Send lines.

        Raises:
            OSError: The server is gone, or takes nothing.
        """
        self._write(data)

    def close(self) -> None:
        """End it; nothing is handed on any more after its last line."""
        self._close()

    def _read(self, fd: int, rest: bytes) -> None:
        pieces = [rest]
        try:
            while data := os.read(fd, 65536):
                pieces.append(data)
                if b"\n" in data:
                    *lines, last = b"".join(pieces).split(b"\n")
                    for line in lines:
                        self._received(self, line + b"\n")
                    pieces = [last]
        except OSError:
            pass
        self._received(self, b"")


def to_owner(line: Line, received: Received) -> Link:
    """Make a link of a connection that has exchanged hellos."""
    connection = line.socket
    connection.settimeout(None)
    if sys.platform == "win32":
        read = _reading_socket(connection)
    else:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_LIMIT, 0))
        read = connection.fileno()
    return Link(read, connection.sendall, line.close, received, owner=True, rest=line.rest)


def to_process(process: subprocess.Popen[bytes], received: Received) -> Link:
    """Make a link of a server process on pipes."""
    incoming, outgoing = process.stdin, process.stdout
    assert incoming is not None
    assert outgoing is not None

    def close() -> None:
        incoming.close()
        threading.Thread(target=process.wait, name="reaper", daemon=True).start()

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(incoming.fileno(), view) :]

    return Link(outgoing.fileno(), write, close, received, owner=False)


def _reading_socket(connection: socket.socket) -> int:
    """Return a descriptor that ``os.read`` takes, fed from a socket: Windows keeps the two apart."""
    read, write = os.pipe()

    def pump() -> None:
        try:
            while data := connection.recv(65536):
                os.write(write, data)
        except OSError:
            pass
        os.close(write)

    threading.Thread(target=pump, name="socket", daemon=True).start()
    return read


# The parent process -------------------------------------------------------------------------------------------------
# The relay's ends beside the end of its client: its parent is gone, or a signal came.
#
# A pipe that some other process also holds never says that the client is gone; the parent's death does.
#
# Standard library only. Not by PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and clients
# start servers from threads of pools.


def leave(code: int) -> NoReturn:
    """End the process now; a relay has nothing to finish."""
    os._exit(code)


def leave_on_signals() -> None:
    """End at the first signal: quietly for SIGTERM, with its number for the others."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda got, _: leave(0 if got == signal.SIGTERM else 128 + got))


def leave_with_parent(parent: int) -> NoReturn:
    """Wait for the parent's end, then end. Call it in a thread."""
    wait_for_end(parent)
    leave(0)


def note(text: str) -> None:
    """Say something on stderr, where clients keep their logs."""
    try:
        sys.stderr.write(f"folder-mcp: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # started without stderr


def wait_for_end(parent: int) -> None:
    """Return when the parent is gone. Blocks; call it in a thread.

    Args:
        parent: Its process id, as ``os.getppid`` gave it at the start.
    """
    if sys.platform == "linux" and _watched_by_pidfd(parent):
        return
    if sys.platform == "darwin" and _watched_by_kqueue(parent):
        return
    while os.getppid() == parent:  # nothing else tells: one system call a second
        time.sleep(1)


def _watched_by_pidfd(parent: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fd = os.pidfd_open(parent)
    except ProcessLookupError:
        return True
    except OSError:  # a kernel before 5.3, or a sandbox without the call
        return False
    try:
        if os.getppid() == parent:  # else the number was somebody else's already
            select.select([fd], [], [])
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _watched_by_kqueue(parent: int) -> bool:
    if sys.platform != "darwin":
        return False
    queue = select.kqueue()
    event = select.kevent(parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    try:
        if os.getppid() == parent:
            queue.control([event], 1)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    finally:
        queue.close()
    return True
