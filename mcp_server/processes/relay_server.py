"""A relay's connection to the server of its client: the owner, or a server process of its own. And how a relay ends.

Standard library only. A thread reads lines and passes them on; the caller sends.
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

from mcp_server.processes.handshake import LineSocket

TYPE_CHECKING = False  # by hand: a relay does without the module ``typing``

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import NoReturn

    Received = Callable[["ServerConnection", bytes], None]
    """Called with each line, and with nothing at the end; from the connection's own thread."""

SEND_LIMIT = 10
"""Seconds after which an owner that receives nothing any more is given up."""


class ServerConnection:
    """A connection to one server. Use ``owner_server`` or ``own_server``.

    Attributes:
        is_owner: Whether it is the owner, and not a process of our own.
    """

    def __init__(
        self,
        fd_in: int,
        write: Callable[[bytes], object],
        close: Callable[[], None],
        received: Received,
        *,
        is_owner: bool,
        unread: bytes = b"",
    ) -> None:
        self.is_owner = is_owner
        self._write = write
        self._close = close
        self._received = received
        self._thread = threading.Thread(target=self._read, args=(fd_in, unread), name="server", daemon=True)

    def start(self) -> None:
        """Begin to pass lines on."""
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Send lines.

        Raises:
            OSError: The server has ended, or receives nothing.
        """
        self._write(data)

    def close(self) -> None:
        """End it; nothing is passed on after its last line."""
        self._close()

    def _read(self, fd: int, unread: bytes) -> None:
        parts = [unread]
        try:
            while data := os.read(fd, 65536):
                parts.append(data)
                if b"\n" in data:
                    *lines, last = b"".join(parts).split(b"\n")
                    for line in lines:
                        self._received(self, line + b"\n")
                    parts = [last]
        except OSError:
            pass
        self._received(self, b"")


def owner_server(line_socket: LineSocket, received: Received) -> ServerConnection:
    """Return the connection to an owner, after the handshake."""
    connection = line_socket.socket
    connection.settimeout(None)
    if sys.platform == "win32":
        read = _descriptor_fed_from(connection)
    else:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_LIMIT, 0))
        read = connection.fileno()
    return ServerConnection(
        read, connection.sendall, line_socket.close, received, is_owner=True, unread=line_socket.unread
    )


def own_server(process: subprocess.Popen[bytes], received: Received) -> ServerConnection:
    """Return the connection to a server process on pipes."""
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

    return ServerConnection(outgoing.fileno(), write, close, received, is_owner=False)


def _descriptor_fed_from(connection: socket.socket) -> int:
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


# The end of a relay -------------------------------------------------------------------------------------------------
# Besides the end of its client's pipe: its parent process has ended, or a signal came. A pipe that another process
# also holds open never tells that the client is gone; the parent's end does. Not by PR_SET_PDEATHSIG: that fires when
# the *thread* that started us ends, and clients start servers from threads of pools.


def exit_now(code: int) -> NoReturn:
    """End the process now; a relay has nothing to finish."""
    os._exit(code)


def exit_on_signals() -> None:
    """End at the first signal: quietly for SIGTERM, with its number for the others."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda got, _: exit_now(0 if got == signal.SIGTERM else 128 + got))


def exit_with_parent(parent: int) -> NoReturn:
    """Wait for the parent's end, then end the process. Call it in a thread."""
    wait_for_end(parent)
    exit_now(0)


def log_to_client(text: str) -> None:
    """Write a line to stderr, which clients keep in their logs."""
    try:
        sys.stderr.write(f"folder-mcp: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # started without stderr


def wait_for_end(parent: int) -> None:
    """Return when the parent has ended. Blocks; call it in a thread.

    Args:
        parent: Its process id, as ``os.getppid`` gave it at the start.
    """
    if sys.platform == "linux" and _watched_by_pidfd(parent):
        return
    if sys.platform == "darwin" and _watched_by_kqueue(parent):
        return
    while os.getppid() == parent:  # no event tells it here: one system call a second
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
        if os.getppid() == parent:  # else the number already belonged to another process
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
