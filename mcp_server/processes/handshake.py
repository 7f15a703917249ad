"""The handshake on a connection between relay and owner: identity, authentication, parameters.

One line of JSON each way, before the protocol itself. On a unix socket the kernel tells which user is at the other
end. On loopback TCP any process may connect, and any process may have taken a port that an owner left: each side
proves that it knows the token, which is never sent. Standard library only.

On TCP:   -> {challenge}  <- {challenge, proof}  -> request with proof  <- answer
On unix:                                         -> request             <- answer
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import socket
import struct
import sys
import time

from mcp_server.processes.owner_lock import PROTOCOL, OwnerFiles
from mcp_server.state_files import read_regular_file, read_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL_KEY = "folder-mcp"
"""The key of a handshake that holds the version of the protocol between relay and owner."""
MAX_HANDSHAKE = 1_000_000
"""Bytes of one handshake line: a client may name many folders."""


class OwnerNotFound(Exception):
    """No owner is behind the address: nothing listens there, or another program does."""


class HandshakeTimeout(Exception):
    """A process accepts the connection and does not answer in time: busy, stopped or hung, but not dead.

    Attributes:
        connection: Still waiting for its answer.
    """

    def __init__(self, connection: LineSocket) -> None:
        super().__init__("accepts connections but does not answer")
        self.connection = connection


class HandshakeRefused(Exception):
    """The owner answers and does not accept us; says why."""


class LineSocket:
    """A socket that sends and receives lines of JSON, and blocks.

    Attributes:
        socket: The connection.
        unread: Bytes received beyond the last line.
    """

    __slots__ = ("socket", "unread")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.unread = b""

    def send(self, document: dict[str, Any]) -> None:
        """Send one line."""
        self.socket.sendall(json.dumps(document).encode("ascii") + b"\n")

    def receive(self, deadline: float | None = None) -> dict[str, Any]:
        """Receive one line.

        Args:
            deadline: Give up at this time of ``time.monotonic``; None waits for ever.

        Raises:
            TimeoutError: The deadline has passed.
            ConnectionError: The other side closed the connection.
            ValueError: It is not a JSON object.
        """
        while b"\n" not in self.unread:
            self.socket.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the other side left")
            self.unread += data
            if len(self.unread) > MAX_HANDSHAKE and b"\n" not in self.unread:
                raise ValueError("not a line of ours")
        self.socket.settimeout(None)
        line, self.unread = self.unread.split(b"\n", 1)
        try:
            document = json.loads(line)
        except RecursionError:
            raise ValueError("not a line of ours") from None
        if not isinstance(document, dict):
            raise ValueError("not a line of ours")
        return document

    def send_and_wait_for_close(self, request: dict[str, Any], limit: float) -> bool:
        """Send a request that ends the other side; return whether it ended within ``limit`` seconds. Closes."""
        deadline = time.monotonic() + limit
        try:
            self.send(request)
            while True:
                self.receive(deadline)
        except TimeoutError:
            return False
        except (OSError, ValueError):
            return True
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; a thread that is reading it wakes up."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def dial(
    owner_files: OwnerFiles, request: dict[str, Any], limit: float, endpoint: dict[str, Any] | None = None
) -> tuple[LineSocket, dict[str, Any]]:
    """Connect to the owner and exchange handshakes.

    Args:
        owner_files: Its state file has the endpoint.
        request: Our half; see ``handshake_request``.
        limit: Seconds for all of it.
        endpoint: Dial this one instead of that of the state file.

    Returns:
        The connection, ready for the protocol, and the owner's answer.

    Raises:
        OwnerNotFound: There is no owner behind the address.
        HandshakeTimeout: It does not answer in time.
        HandshakeRefused: It does not accept us.
    """
    deadline = time.monotonic() + limit
    if endpoint is None:
        endpoint = _checked_endpoint(read_state(owner_files.state_file).get("endpoint"), owner_files)
    connection = LineSocket(connect(endpoint, limit))
    try:
        if connection.socket.family == socket.AF_INET:
            request = {**request, "proof": _authenticate(connection, _token(owner_files), deadline)}
        connection.send(request)
        answer = connection.receive(deadline)
    except TimeoutError:
        raise HandshakeTimeout(connection) from None
    except (OSError, ValueError) as error:
        connection.close()
        raise OwnerNotFound(str(error)) from error
    if answer.get(PROTOCOL_KEY) is None:
        connection.close()
        raise OwnerNotFound("something else listens there")
    if not answer.get("ok"):
        connection.close()
        raise HandshakeRefused(str(answer.get("error", "no reason given")))
    return connection, answer


def handshake_request(kind: str, **parameters: Any) -> dict[str, Any]:
    """Return our half of the handshake: ``client`` goes on with MCP, ``control`` with requests of our own."""
    return {PROTOCOL_KEY: PROTOCOL, "kind": kind, "pid": os.getpid(), **parameters}


def _checked_endpoint(endpoint: Any, owner_files: OwnerFiles) -> dict[str, Any]:
    """Return the endpoint of a state file, which may hold anything: a socket in the owner's own directory, or a port.

    Raises:
        OwnerNotFound: It is neither.
    """
    if isinstance(endpoint, dict) and endpoint.get("kind") == "unix":
        name = os.path.basename(str(endpoint.get("path")))
        if name.startswith("owner") and name.endswith(".sock"):
            return {"kind": "unix", "path": os.path.join(owner_files.directory, name)}
    elif isinstance(endpoint, dict) and endpoint.get("kind") == "tcp":
        port = endpoint.get("port")
        if type(port) is int and 0 < port < 65536:
            return {"kind": "tcp", "port": port}
    raise OwnerNotFound("no owner has said where it listens")


def connect(endpoint: dict[str, Any], limit: float) -> socket.socket:
    """Connect to an endpoint: a unix socket of this user's, or a port on loopback, whatever else it names.

    Args:
        endpoint: ``{"kind": "unix", "path": ...}`` or ``{"kind": "tcp", "port": ...}``.
        limit: Seconds to wait.

    Raises:
        OwnerNotFound: Nothing listens there, or another user does.
        HandshakeTimeout: The other side has stopped accepting.
        OSError: No socket can be made.
    """
    if endpoint["kind"] == "unix":
        address: Any = str(endpoint["path"])
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        address = ("127.0.0.1", int(endpoint["port"]))
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if found.family == socket.AF_INET:
            found.settimeout(max(0.001, limit))
            found.connect(address)
        else:  # with a time-out of Python's the connection would be refused where the other side's queue is full
            _set_send_limit(found, max(0.001, limit))
            found.connect(address)
            _set_send_limit(found, 0.0)
            found.settimeout(max(0.001, limit))
        if found.family == socket.AF_INET:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif not same_user(found):
            raise OwnerNotFound("another user listens there")
    except OwnerNotFound:
        found.close()
        raise
    except (TimeoutError, BlockingIOError):  # the backlog is full: the owner has stopped accepting
        raise HandshakeTimeout(LineSocket(found)) from None
    except (OSError, ValueError, OverflowError) as error:
        found.close()
        raise OwnerNotFound(str(error)) from error
    return found


def _set_send_limit(connection: socket.socket, seconds: float) -> None:
    """Limit how long connecting and sending block in the kernel; 0 is for ever."""
    whole = int(seconds)
    limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


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
    """Return the HMAC of these nonces with the token, as ``side`` (owner or relay)."""
    return hmac.new(bytes.fromhex(token), "|".join((PROTOCOL_KEY, side, *nonces)).encode(), "sha256").hexdigest()


def proof_is_valid(given: Any, token: str, side: str, *nonces: str) -> bool:
    """Whether a proof is right; takes the same time whatever is wrong."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), proof(token, side, *nonces).encode())


def _authenticate(connection: LineSocket, token: str, deadline: float) -> str:
    """Make the other side prove that it is our owner; return our own proof."""
    ours = nonce()
    connection.send({PROTOCOL_KEY: PROTOCOL, "challenge": ours})
    answer = connection.receive(deadline)
    theirs = answer.get("challenge")
    if not isinstance(theirs, str) or not proof_is_valid(answer.get("proof"), token, "owner", ours, theirs):
        raise ValueError("something else has the owner's port")
    return proof(token, "relay", theirs, ours)


def _token(owner_files: OwnerFiles) -> str:
    return read_regular_file(owner_files.token_file, 4096).decode("ascii").strip()
