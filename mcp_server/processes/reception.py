"""The owner's address, and the first line of everybody who comes to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from mcp_server import timing
from mcp_server.processes.claim import PROTOCOL, Place
from mcp_server.processes.hello import MARK, MAX_HELLO, NotThere, connect, nonce, proof, proves, same_user

MAX_LINE = 64 * 1024 * 1024
"""Bytes of a single message; more is not a message."""


class Address:
    """Where the owner listens.

    Attributes:
        socket: Listening.
        endpoint: As the note says it.
        token: What both sides must know where the kernel does not tell who is there; empty on unix sockets.
    """

    def __init__(self, listening: socket.socket, endpoint: dict[str, Any], token: str) -> None:
        self.socket = listening
        self.endpoint = endpoint
        self.token = token

    def forget(self) -> None:
        """Remove what is left of the address on disk."""
        if self.endpoint["kind"] == "unix":
            Path(self.endpoint["path"]).unlink(missing_ok=True)


def listen(place: Place, instance: str, *, tcp: bool = False) -> Address:
    """Listen. Only the holder of the claim may call this.

    Args:
        place: Where sockets lie.
        instance: Of this owner; part of the address if the usual one is taken.
        tcp: On loopback instead of a unix socket, as Windows has to.

    Raises:
        OSError: There is no address to be had.
    """
    if tcp or sys.platform == "win32":
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        token = nonce()
        _write_token(place, token)
        endpoint: dict[str, Any] = {"kind": "tcp", "port": listening.getsockname()[1]}
    else:
        path = Path(place.directory) / "owner.sock"
        for old in (path, *Path(place.directory).glob("owner-*.sock")):
            if not _answers(old):
                old.unlink(missing_ok=True)
        if path.exists():  # somebody sits there who is not the owner, for we are
            path = path.with_name(f"owner-{instance[:8]}.sock")
        listening, token = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), ""
        listening.bind(str(path))
        path.chmod(0o600)
        endpoint = {"kind": "unix", "path": str(path)}
    listening.listen(128)
    listening.setblocking(False)
    return Address(listening, endpoint, token)


def _answers(path: Path) -> bool:
    """Whether a process accepts connections on a socket file; a file that nobody listens on is a leftover."""
    try:
        connect({"kind": "unix", "path": str(path)}, 1.0).close()
    except NotThere:
        return False
    return True


def _write_token(place: Place, token: str) -> None:
    new = Path(f"{place.token}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(token)
    new.replace(place.token)


class Visitor:
    """One connection, by lines.

    Attributes:
        hello: What it said of itself; empty until it has.
    """

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._sending = anyio.Lock()
        self.hello: dict[str, Any] = {}

    async def line(self, limit: int = MAX_LINE) -> bytes | None:
        """Return the next line without its end; None when the other side has left.

        Raises:
            ValueError: It is longer than ``limit`` bytes.
        """
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > limit:
                raise ValueError("a line is too long")
            try:
                self._buffer += await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return None
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return found

    async def send(self, line: bytes) -> None:
        """Send one line, given without its end; nothing happens if the other side has left."""
        async with self._sending:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._stream.send(line + b"\n")

    async def say(self, document: dict[str, Any]) -> None:
        """Send one of our own messages."""
        await self.send(json.dumps(document).encode("ascii"))

    async def close(self) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
            await self._stream.aclose()


async def welcome(stream: SocketStream, address: Address, about: dict[str, Any]) -> Visitor | None:
    """Exchange hellos.

    Args:
        stream: A connection that has just been accepted.
        address: Ours.
        about: What to say of ourselves.

    Returns:
        The visitor, or None if it may not come in; it has then been told, and may be closed.
    """
    visitor = Visitor(stream)
    with anyio.move_on_after(timing.HANDSHAKE_S):
        try:
            refusal = await _examined(visitor, stream, address)
        except (ValueError, TypeError, RecursionError):
            return None
        if refusal:
            await visitor.say({MARK: PROTOCOL, "ok": False, "error": refusal})
            return None
        await visitor.say({MARK: PROTOCOL, "ok": True, **about})
        return visitor
    return None


async def _examined(visitor: Visitor, stream: SocketStream, address: Address) -> str:
    """Read the hello; return why it is refused, or nothing."""
    if address.token:
        first = await _said(visitor)
        ours, theirs = nonce(), str(first.get("challenge", ""))
        if not theirs:
            return "no challenge"
        mine = proof(address.token, "owner", theirs, ours)
        await visitor.say({MARK: PROTOCOL, "challenge": ours, "proof": mine})
        visitor.hello = await _said(visitor)
        if not proves(visitor.hello.get("proof"), address.token, "relay", ours, theirs):
            return "it does not know this owner's token"
    else:
        if not same_user(stream.extra(SocketAttribute.raw_socket)):  # noqa: S610 - not Django's
            return "it belongs to another user"
        visitor.hello = await _said(visitor)
    if visitor.hello.get(MARK) != PROTOCOL:
        return f"it speaks protocol {visitor.hello.get(MARK)!r}, this owner {PROTOCOL}; restart the older one"
    return ""


async def _said(visitor: Visitor) -> dict[str, Any]:
    line = await visitor.line(MAX_HELLO)
    if line is None:
        raise ValueError("it left")
    document = json.loads(line)
    if not isinstance(document, dict):
        raise TypeError("not a hello")
    return document
