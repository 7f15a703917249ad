"""The first line on a connection between relay and owner: who is there, may they, and what they bring.

One line of JSON each way, before the protocol itself. On a unix socket the kernel vouches for the user. On loopback
TCP anybody may connect, and anybody may have taken a port that an owner left: each side proves that it knows the
token, which is never sent. Standard library only.

Dialling, on TCP:  -> {challenge}  <- {challenge, proof}  -> hello with proof  <- answer
Dialling, on unix:                                        -> hello             <- answer
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import time

from mcp_server.processes.owner_lock import PROTOCOL, Place
from mcp_server.state_files import read_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MARK = "folder-mcp"
MAX_HELLO = 1_000_000
"""Bytes of a hello: a client may name many folders."""


class NotThere(Exception):
    """Nobody of ours is behind the address: nothing listens, or it is something else."""


class Silent(Exception):
    """Somebody accepts and does not answer in time: alive, stopped or wedged, but not dead.

    Attributes:
        line: The connection, still waiting for its answer.
    """

    def __init__(self, line: Line) -> None:
        super().__init__("accepts connections but does not answer")
        self.line = line


class Refused(Exception):
    """The owner answers and will not serve us; says why."""


class Line:
    """A connection read by lines.

    Attributes:
        socket: The connection.
        rest: Bytes read beyond the last line.
    """

    __slots__ = ("rest", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.rest = b""

    def send(self, document: dict[str, Any]) -> None:
        """Send one line."""
        self.socket.sendall(json.dumps(document).encode("ascii") + b"\n")

    def receive(self, until: float | None = None) -> dict[str, Any]:
        """Receive one line.

        Args:
            until: Give up at this time of ``time.monotonic``; None waits for ever.

        Raises:
            TimeoutError: The time is up.
            ConnectionError: The other side is gone.
            ValueError: It is not a line of ours.
        """
        while b"\n" not in self.rest:
            self.socket.settimeout(None if until is None else max(0.001, until - time.monotonic()))
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the other side left")
            self.rest += data
            if len(self.rest) > MAX_HELLO and b"\n" not in self.rest:
                raise ValueError("not a line of ours")
        self.socket.settimeout(None)
        line, self.rest = self.rest.split(b"\n", 1)
        document = json.loads(line)
        if not isinstance(document, dict):
            raise ValueError("not a line of ours")
        return document

    def ended_after(self, request: dict[str, Any], limit: float) -> bool:
        """Send a request that ends the other side; whether it did within ``limit`` seconds. Closes."""
        until = time.monotonic() + limit
        try:
            self.send(request)
            while True:
                self.receive(until)
        except TimeoutError:
            return False
        except (OSError, ValueError):
            return True
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; whoever is reading it wakes up."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def dial(
    place: Place, hello: dict[str, Any], limit: float, endpoint: dict[str, Any] | None = None
) -> tuple[Line, dict[str, Any]]:
    """Connect to the owner and exchange hellos.

    Args:
        place: Where its note is.
        hello: What we are and bring; see ``greeting``.
        limit: Seconds for all of it.
        endpoint: Dial this one instead of that of the note.

    Returns:
        The connection, ready for the protocol, and the owner's answer.

    Raises:
        NotThere: There is no owner behind the address.
        Silent: It does not answer in time.
        Refused: It does not want us.
    """
    until = time.monotonic() + limit
    line = Line(connect(endpoint or read_state(place.note).get("endpoint"), limit))
    try:
        if line.socket.family == socket.AF_INET:
            hello = {**hello, "proof": _challenged(line, _token(place), until)}
        line.send(hello)
        answer = line.receive(until)
    except TimeoutError:
        raise Silent(line) from None
    except (OSError, ValueError) as error:
        line.close()
        raise NotThere(str(error)) from error
    if answer.get(MARK) is None:
        line.close()
        raise NotThere("something else listens there")
    if not answer.get("ok"):
        line.close()
        raise Refused(str(answer.get("error", "no reason given")))
    return line, answer


def greeting(kind: str, **more: Any) -> dict[str, Any]:
    """Return a hello: ``client`` goes on with MCP, ``control`` with requests of our own."""
    return {MARK: PROTOCOL, "kind": kind, "pid": os.getpid(), **more}


def connect(endpoint: Any, limit: float) -> socket.socket:
    """Connect to an endpoint as an owner's note has it.

    Raises:
        NotThere: Nothing listens there, or the note says nothing.
    """
    try:
        if endpoint["kind"] == "unix":
            address: Any = str(endpoint["path"])
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            address = ("127.0.0.1", int(endpoint["port"]))
            found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except (TypeError, KeyError, ValueError):
        raise NotThere("no owner has said where it listens") from None
    try:
        found.settimeout(max(0.001, limit))
        found.connect(address)
        if found.family == socket.AF_INET:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif not same_user(found):
            raise NotThere("another user listens there")
    except NotThere:
        found.close()
        raise
    except TimeoutError:  # the queue of connections is full: nobody takes them
        raise Silent(Line(found)) from None
    except OSError as error:
        found.close()
        raise NotThere(str(error)) from error
    return found


def same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of a unix socket runs as this user (or as root)."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", credentials)[1] in (os.getuid(), 0)
    if sys.platform == "darwin":  # struct xucred: version, uid, number of groups, groups
        credentials = connection.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED
        return bool(struct.unpack_from("II", credentials)[1] in (os.getuid(), 0))
    return True


def nonce() -> str:
    """Return 256 random bits as text."""
    return os.urandom(32).hex()


def proof(token: str, side: str, *nonces: str) -> str:
    """Return what only somebody who knows the token can say about these nonces, as ``side`` (owner or relay)."""
    import hmac  # noqa: PLC0415 - not where there are unix sockets

    return hmac.new(bytes.fromhex(token), "|".join((MARK, side, *nonces)).encode(), "sha256").hexdigest()


def proves(given: Any, token: str, side: str, *nonces: str) -> bool:
    """Whether a proof is right; takes the same time whatever is wrong."""
    import hmac  # noqa: PLC0415

    return isinstance(given, str) and hmac.compare_digest(given.encode(), proof(token, side, *nonces).encode())


def _challenged(line: Line, token: str, until: float) -> str:
    """Make the other side prove that it is our owner; return our own proof."""
    ours = nonce()
    line.send({MARK: PROTOCOL, "challenge": ours})
    answer = line.receive(until)
    theirs = answer.get("challenge")
    if not isinstance(theirs, str) or not proves(answer.get("proof"), token, "owner", ours, theirs):
        raise ValueError("something else has the owner's port")
    return proof(token, "relay", theirs, ours)


def _token(place: Place) -> str:
    with open(place.token, encoding="ascii") as stream:
        return stream.read().strip()
