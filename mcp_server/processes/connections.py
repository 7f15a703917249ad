"""The owner's address, and the first line of everybody who comes to it."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from indexer.errors import FolderMcpError
from indexer.status_types import RelayStatus
from mcp_server.engine_port import call_types, made, plain
from mcp_server.processes import timing
from mcp_server.processes.handshake import MARK, MAX_HELLO, NotThere, connect, nonce, proof, proves, same_user
from mcp_server.processes.owner_lock import PROTOCOL, Place

if TYPE_CHECKING:
    from indexer.config import Config
    from mcp_server.engine_port import ConnectionContext, EnginePort

log = logging.getLogger(__name__)


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


# Folders a connection names -----------------------------------------------------------------------------------------
# The folders that connections name: remembered, indexed, and searched by default by whoever named them.


async def remember(config: Config, context: ConnectionContext, names: Sequence[str]) -> None:
    """Remember folders that a connection named; it gets them, and what is wrong with the others, and is ready."""
    from indexer.folders.registry import add_folder  # noqa: PLC0415 - not before the first answer

    for name in names:
        try:
            known = await anyio.to_thread.run_sync(add_folder, config, name)
        except FolderMcpError as error:
            log.warning("%s", error)
            context.notices.append(str(error))
        else:
            context.folders.append(known.path)
    context.ready.set()


class NamedFolders:
    """Brings folders to the one engine, one at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._adding = anyio.Lock()

    async def bring(self, context: ConnectionContext, names: Sequence[str]) -> None:
        """Remember the folders a connection named, then have them indexed.

        Args:
            context: Of the connection; gets the folders, and what is wrong with the others.
            names: Paths, absolute.
        """
        await remember(self._config, context, names)
        for path in context.folders:
            async with self._adding:
                if path in {folder.path for folder in context.engine.folders()}:
                    continue
                try:
                    await context.engine.add_folder(path)
                except FolderMcpError as error:  # the index may still be closed: it finds the folder when it opens
                    log.info("%s", error)


# Requests of our own commands ---------------------------------------------------------------------------------------
# What our own commands ask the owner: the engine's methods over a connection, a line of JSON each way.
#
# ``{"id": 1, "do": "search", "with": {...}}`` is answered by ``{"id": 1, "result": ...}``, by
# ``{"id": 1, "error": ...}`` or, for ``watch``, by ``{"id": 1, "event": ...}`` until the other side leaves.

End = Callable[[str, str], None]
"""Ends the owner: why (``stop``, ``stand_down``), and for which version."""


class Requests:
    """Answers one command's requests."""

    def __init__(
        self, engine: Callable[[], Awaitable[EnginePort]], end: End, page: Callable[[], Awaitable[str]]
    ) -> None:
        """Keep what is needed.

        Args:
            engine: Returns the engine, when there is one.
            end: Ends the owner.
            page: Opens the page and returns its address.
        """
        self._engine = engine
        self._end = end
        self._page = page

    async def serve(self, visitor: Visitor) -> None:
        """Answer until the command leaves; what it still waits for is then not waited for any more."""
        async with anyio.create_task_group() as group:
            while (line := await visitor.line()) is not None:
                request = json.loads(line)
                group.start_soon(self._answer, visitor, request["id"], str(request["do"]), request.get("with") or {})
            group.cancel_scope.cancel()

    async def _answer(self, visitor: Visitor, identity: Any, do: str, given: dict[str, Any]) -> None:
        try:
            if do == "watch":
                async for status in (await self._engine()).watch():
                    await visitor.say({"id": identity, "event": plain(status)})
                return
            result = await self._done(do, given)
        except FolderMcpError as error:
            about = {"kind": type(error).__name__, "text": str(error), "code": getattr(error, "code", "")}
            await visitor.say({"id": identity, "error": about})
        except Exception as error:  # the boundary to another process: it must hear of it, and so must the log
            log.exception("%s failed", do)
            text = f"{do} failed in the background process ({type(error).__name__}: {error}); see its log"
            await visitor.say({"id": identity, "error": {"kind": "FolderMcpError", "text": text, "code": ""}})
        else:
            await visitor.say({"id": identity, "result": plain(result)})

    async def _done(self, do: str, given: dict[str, Any]) -> Any:
        if do in ("stop", "stand_down"):
            self._end(do, str(given.get("version", "")))
            return True
        if do == "page":
            return await self._page()
        types = call_types(do)
        if not types:
            raise FolderMcpError(f"this background process does not know how to {do}; restart it: folder-mcp stop")
        engine = await self._engine()
        asked = {name: made(types[name], value) for name, value in given.items() if name in types}
        if do == "index":
            await _remember(engine, asked.get("folders"))
        result = getattr(engine, do)(**asked)
        return await result if inspect.isawaitable(result) else result


async def _remember(engine: EnginePort, folders: Sequence[str] | None) -> None:
    """Have the engine index folders that another process remembered."""
    known = {folder.path for folder in engine.folders()}
    for path in folders or ():
        if path not in known:
            await engine.add_folder(path)


# Calls in flight ----------------------------------------------------------------------------------------------------
# Who is connected to the owner, what they brought, and which of their calls are open.


class CallsInFlight:
    """One connection's open calls.

    Attributes:
        draining: No more is taken in.
        served: Set when the first call has been answered.
    """

    def __init__(self) -> None:
        self.draining = False
        self._open: set[Any] = set()
        self._quiet = anyio.Event()
        self.served = anyio.Event()

    def asked(self, identity: Any) -> None:
        """A call came."""
        self._open.add(identity)

    def answered(self, identity: Any) -> None:
        """A call was answered, or its answer is not wanted any more."""
        self._open.discard(identity)
        self.served.set()
        if not self._open:
            self._quiet.set()
            self._quiet = anyio.Event()

    async def quiet(self) -> None:
        """Take nothing more in; return when everything taken in is answered."""
        self.draining = True
        while self._open:
            await self._quiet.wait()


@dataclass(slots=True, eq=False)
class Connected:
    """One connection.

    Attributes:
        kind: ``client`` speaks MCP, ``control`` is a command of ours.
        folders: Those it named.
        fingerprint: Of its configuration.
    """

    kind: str
    pid: int
    version: str
    folders: tuple[str, ...] = ()
    fingerprint: str = ""
    since: float = field(default_factory=time.time)
    traffic: CallsInFlight = field(default_factory=CallsInFlight)


class Clients:
    """Everybody who is connected.

    Attributes:
        left_at: When the last one left, or the owner started; ``time.monotonic``.
        any_yet: Whether there ever was one.
    """

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._here: list[Connected] = []
        self._changed = anyio.Event()
        self.left_at = time.monotonic()
        self.any_yet = False

    @property
    def present(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._here)

    @contextmanager
    def entered(self, hello: dict[str, Any]) -> Iterator[Connected]:
        """Keep a connection in the list while it lasts."""
        named = hello.get("folders")
        one = Connected(
            kind=str(hello.get("kind")),
            pid=int(hello.get("pid") or 0),
            version=str(hello.get("version", "")),
            folders=tuple(str(folder) for folder in named) if isinstance(named, list) else (),
            fingerprint=str(hello.get("config", "")),
        )
        self._here.append(one)
        self.any_yet = self.any_yet or one.kind == "client"
        self._beat()
        try:
            yield one
        finally:
            self._here.remove(one)
            self.left_at = time.monotonic()
            self._beat()

    async def changed(self) -> None:
        """Wait until somebody comes or leaves."""
        await self._changed.wait()

    async def quiet(self) -> None:
        """Take nothing more in; return when everything taken in is answered."""
        for one in list(self._here):
            await one.traffic.quiet()

    def status(self) -> tuple[RelayStatus, ...]:
        """Who is connected and what they brought."""
        return tuple(
            RelayStatus(one.pid, one.version, one.since, one.folders, one.fingerprint == self._fingerprint)
            for one in self._here
            if one.kind == "client"
        )

    def _beat(self) -> None:
        event, self._changed = self._changed, anyio.Event()
        event.set()
