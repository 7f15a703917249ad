"""The owner's connections: its address, the handshake, folders that they name, control requests, calls in flight."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from indexer.broadcast import Notifier
from indexer.errors import FolderMcpError
from indexer.folders.registry import add_folder, list_folders, resolved
from indexer.status_types import RelayStatus
from mcp_server.access.access import is_within
from mcp_server.access.fenced_status import quotes_path
from mcp_server.engine_port import from_json, method_types, to_json
from mcp_server.processes import timing
from mcp_server.processes.handshake import (
    MAX_HANDSHAKE,
    PROTOCOL_KEY,
    HandshakeTimeout,
    OwnerNotFound,
    connect,
    nonce,
    proof,
    proof_is_valid,
    same_user,
)
from mcp_server.processes.owner_lock import PROTOCOL, OwnerFiles, fits_socket
from mcp_server.protocol.lines import MAX_LINE, LineBuffer, TooLong
from mcp_server.protocol.untrusted import without_secrets

if TYPE_CHECKING:
    from indexer.config import Config
    from mcp_server.engine_port import ConnectionContext, EnginePort

log = logging.getLogger(__name__)


class Address:
    """Where the owner listens.

    Attributes:
        socket: Listening.
        endpoint: As it is written to the state file.
        token: Shared secret where the kernel does not tell which user connects; empty on unix sockets.
    """

    def __init__(self, listening: socket.socket, endpoint: dict[str, Any], token: str) -> None:
        self.socket = listening
        self.endpoint = endpoint
        self.token = token

    def unlink(self) -> None:
        """Remove the socket file."""
        if self.endpoint["kind"] == "unix":
            Path(self.endpoint["path"]).unlink(missing_ok=True)


def listen(owner_files: OwnerFiles, instance: str, *, tcp: bool = False) -> Address:
    """Bind and listen. Only the holder of the owner lock may call this.

    Args:
        owner_files: Their directory gets the socket.
        instance: Of this owner; part of the address if the usual one is taken.
        tcp: Listen on loopback instead of a unix socket, as on Windows and where the directory's path is too long.

    Raises:
        OSError: No address can be bound.
    """
    if tcp or sys.platform == "win32" or not fits_socket(owner_files.directory):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        token = nonce()
        _write_token(owner_files, token)
        endpoint: dict[str, Any] = {"kind": "tcp", "port": listening.getsockname()[1]}
    else:
        path = Path(owner_files.directory) / "owner.sock"
        for old in (path, *Path(owner_files.directory).glob("owner-*.sock")):
            if not _answers(old):
                with contextlib.suppress(OSError):  # a directory, perhaps
                    old.unlink(missing_ok=True)
        if os.path.lexists(path):  # another process answers there; it is not the owner, for we hold the lock
            path = path.with_name(f"owner-{instance[:8]}.sock")
        listening, token = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), ""
        listening.bind(str(path))
        path.chmod(0o600)
        endpoint = {"kind": "unix", "path": str(path)}
    listening.listen(128)
    listening.setblocking(False)
    return Address(listening, endpoint, token)


def _answers(path: Path) -> bool:
    """Whether a process accepts connections on a socket file; a file on which no process listens is left over."""
    try:
        connect({"kind": "unix", "path": str(path)}, 1.0).close()
    except OwnerNotFound:
        return False
    except HandshakeTimeout as error:  # it has stopped accepting, and lives
        error.connection.close()
    return True


def _write_token(owner_files: OwnerFiles, token: str) -> None:
    new = Path(f"{owner_files.token_file}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(token)
    new.replace(owner_files.token_file)


class LineStream:
    """An accepted connection that sends and receives lines.

    Attributes:
        handshake: The other side's half; empty until it has arrived.
    """

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._lines = LineBuffer()
        self._received: deque[bytes | TooLong] = deque()
        self._sending = anyio.Lock()
        self.handshake: dict[str, Any] = {}

    async def receive_line(self, limit: int = MAX_LINE) -> bytes | None:
        """Return the next line without its end; None when the other side has closed the connection.

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

    async def receive_bounded(self) -> bytes | TooLong | None:
        """Return the next line without its end, or the ends of one that is too long; None at the end.

        Once this has been called, ``receive_line`` must not be.
        """
        while not self._received:
            if self._buffer:
                data, self._buffer = bytes(self._buffer), bytearray()
            else:
                try:
                    data = await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return None
            self._received.extend(self._lines.feed(data))
        return self._received.popleft()

    async def send_line(self, line: bytes) -> None:
        """Send one line, given without its end; ignored if the other side has closed the connection."""
        async with self._sending:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._stream.send(line + b"\n")

    async def send_json(self, document: dict[str, Any]) -> None:
        """Send one message of our own protocol."""
        await self.send_line(json.dumps(document).encode("ascii"))

    async def close(self) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
            await self._stream.aclose()


async def accept_handshake(stream: SocketStream, address: Address, about: dict[str, Any]) -> LineStream | None:
    """Exchange handshakes.

    Args:
        stream: A connection that has just been accepted.
        address: Ours.
        about: Our half of the handshake: what the owner says of itself.

    Returns:
        The connection, or None if it is refused; the other side has then been told, and the stream may be closed.
    """
    connection = LineStream(stream)
    with anyio.move_on_after(timing.HANDSHAKE_S):
        try:
            refusal = await _refusal(connection, stream, address)
        except (ValueError, TypeError, RecursionError):
            return None
        if refusal:
            await connection.send_json({PROTOCOL_KEY: PROTOCOL, "ok": False, "error": refusal})
            return None
        await connection.send_json({PROTOCOL_KEY: PROTOCOL, "ok": True, **about})
        return connection
    return None


async def _refusal(connection: LineStream, stream: SocketStream, address: Address) -> str:
    """Read the other side's half; return why it is refused, or nothing."""
    if address.token:
        first = await _receive_object(connection)
        ours, theirs = nonce(), str(first.get("challenge", ""))
        if not theirs:
            return "no challenge"
        mine = proof(address.token, "owner", theirs, ours)
        await connection.send_json({PROTOCOL_KEY: PROTOCOL, "challenge": ours, "proof": mine})
        connection.handshake = await _receive_object(connection)
        if not proof_is_valid(connection.handshake.get("proof"), address.token, "relay", ours, theirs):
            return "it does not know this owner's token"
    else:
        if not same_user(stream.extra(SocketAttribute.raw_socket)):  # noqa: S610 - not Django's
            return "it belongs to another user"
        connection.handshake = await _receive_object(connection)
    if connection.handshake.get(PROTOCOL_KEY) != PROTOCOL:
        version = connection.handshake.get(PROTOCOL_KEY)
        return f"it speaks protocol {version!r}, this owner {PROTOCOL}; restart the older one"
    return ""


async def _receive_object(connection: LineStream) -> dict[str, Any]:
    line = await connection.receive_line(MAX_HANDSHAKE)
    if line is None:
        raise ValueError("it closed the connection")
    document = json.loads(line)
    if not isinstance(document, dict):
        raise TypeError("not a handshake")
    return document


# Folders that a connection names -------------------------------------------------------------------------------------
# They are registered, indexed, and searched by default on that connection.


async def register_folders(config: Config, context: ConnectionContext, names: Sequence[str]) -> None:
    """Register the folders that a connection named. Its context gets them, and a notice for each that is refused.

    Where they are all that it may see, it gets them as limits, registered or not; a part of an indexed folder needs
    no registering.
    """
    if context.only:
        context.limits = await anyio.to_thread.run_sync(_resolved, names)
    for name in names:
        try:
            if context.only and await anyio.to_thread.run_sync(_is_part, config, name):
                continue
            known = await anyio.to_thread.run_sync(add_folder, config, name)
        except FolderMcpError as error:
            log.warning("%s", error)
            context.notices.append(_why_refused(error, name, context))
        else:
            context.folders.append(known.path)
            if context.only:  # perhaps in another spelling, on a file system to which both are one
                context.limits = tuple(dict.fromkeys((*context.limits, known.path)))
    context.ready.set()


def _resolved(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(resolved(name) for name in names if name and "\0" not in name)


def _is_part(config: Config, name: str) -> bool:
    path = resolved(name)
    return any(path != known and is_within(path, known) for known in list_folders(config).paths)


def _why_refused(error: FolderMcpError, name: str, context: ConnectionContext) -> str:
    """Return why a folder is refused; without paths that the connection may not see."""
    if context.only and quotes_path(str(error), context.limits):
        return f"{name} cannot be indexed; on the machine `folder-mcp folders add` says why"
    return str(error)


class NamedFolders:
    """Adds the folders of connections to the one engine, one at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._adding = anyio.Lock()

    async def add(self, context: ConnectionContext, names: Sequence[str]) -> None:
        """Register the folders that a connection named, then have the engine index them.

        Args:
            context: Of the connection; gets the folders, and a notice for each that is refused.
            names: Paths, absolute.
        """
        await register_folders(self._config, context, names)
        for path in context.folders:
            async with self._adding:
                if path in {folder.path for folder in context.engine.folders()}:
                    continue
                try:
                    await context.engine.add_folder(path)
                except FolderMcpError as error:  # the index may still be closed: it finds the folder when it opens
                    log.info("%s", error)


# Control requests ---------------------------------------------------------------------------------------------------
# Our own commands call the engine's methods over a connection, a line of JSON each way:
#
# ``{"id": 1, "do": "search", "with": {...}}`` is answered by ``{"id": 1, "result": ...}``, by
# ``{"id": 1, "error": ...}`` or, for ``watch``, by ``{"id": 1, "event": ...}`` until the other side closes.

EndOwner = Callable[[str, str], None]
"""Ends the owner: why (``stop``, ``stand_down``), and for which version."""


class ControlRequests:
    """Answers the requests of our own commands."""

    def __init__(
        self, engine: Callable[[], Awaitable[EnginePort]], end: EndOwner, page: Callable[[], Awaitable[str]]
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

    async def serve(self, connection: LineStream) -> None:
        """Answer until the command closes the connection; requests that are still running are then cancelled."""
        async with anyio.create_task_group() as group:
            while (line := await connection.receive_line()) is not None:
                request = json.loads(line)
                group.start_soon(
                    self._answer, connection, request["id"], str(request["do"]), request.get("with") or {}
                )
            group.cancel_scope.cancel()

    async def _answer(self, connection: LineStream, identity: Any, do: str, arguments: dict[str, Any]) -> None:
        try:
            if do == "watch":
                async for status in (await self._engine()).watch():
                    await connection.send_json({"id": identity, "event": to_json(status)})
                return
            result = await self._call(do, arguments)
        except FolderMcpError as error:
            about = {
                "kind": type(error).__name__,
                "text": without_secrets(str(error)),
                "code": getattr(error, "code", ""),
            }
            await connection.send_json({"id": identity, "error": about})
        except Exception as error:  # the boundary to another process: it must hear of it, and so must the log
            log.exception("%s failed", do)
            text = f"{do} failed in the background process ({type(error).__name__}: {error}); see its log"
            await connection.send_json(
                {"id": identity, "error": {"kind": "FolderMcpError", "text": without_secrets(text), "code": ""}}
            )
        else:
            await connection.send_json({"id": identity, "result": to_json(result)})

    async def _call(self, do: str, arguments: dict[str, Any]) -> Any:
        if do in ("stop", "stand_down"):
            self._end(do, str(arguments.get("version", "")))
            return True
        if do == "page":
            return await self._page()
        types = method_types(do)
        if not types:
            raise FolderMcpError(f"this background process does not know how to {do}; restart it: folder-mcp stop")
        engine = await self._engine()
        typed = {name: from_json(types[name], value) for name, value in arguments.items() if name in types}
        if do == "index":
            await _add_missing_folders(engine, typed.get("folders"))
        result = getattr(engine, do)(**typed)
        return await result if inspect.isawaitable(result) else result


async def _add_missing_folders(engine: EnginePort, folders: Sequence[str] | None) -> None:
    """Have the engine add folders that another process registered."""
    known = {folder.path for folder in engine.folders()}
    for path in folders or ():
        if path not in known:
            await engine.add_folder(path)


# Calls in flight ----------------------------------------------------------------------------------------------------
# Which connections the owner has, and which of their calls are unanswered.


class CallsInFlight:
    """One connection's unanswered calls.

    Attributes:
        draining: No further call is accepted.
        first_answered: Set when the first call has been answered.
    """

    def __init__(self) -> None:
        self.draining = False
        self._open: Counter[Any] = Counter()  # a client may use an id twice
        self._none_open = Notifier()
        self.first_answered = anyio.Event()

    def started(self, identity: Any) -> None:
        """Record a call."""
        self._open[identity] += 1

    def finished(self, identity: Any) -> None:
        """Record that a call was answered or cancelled."""
        if isinstance(identity, str | int) and identity in self._open:
            self._open[identity] -= 1
            if not self._open[identity]:
                del self._open[identity]
        self.first_answered.set()
        if not self._open:
            self._none_open.notify()

    async def drain(self) -> None:
        """Accept no further call; return when all accepted ones are answered."""
        self.draining = True
        while self._open:
            await self._none_open.wait()


@dataclass(slots=True, eq=False)
class ConnectionInfo:
    """One connection.

    Attributes:
        kind: ``client`` speaks MCP; ``control`` and ``presence`` are commands of ours, ``page`` is an open page.
        folders: Those that it named.
        only: Whether it may see nothing else.
        fingerprint: Of its configuration.
    """

    kind: str
    pid: int
    version: str
    folders: tuple[str, ...] = ()
    fingerprint: str = ""
    only: bool = False
    since: float = field(default_factory=time.time)
    calls: CallsInFlight = field(default_factory=CallsInFlight)


class Connections:
    """All connections of the owner.

    Attributes:
        left_at: When the last one closed, or the owner started; ``time.monotonic``.
        had_client: Whether there ever was a client.
    """

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._open: list[ConnectionInfo] = []
        self._notifier = Notifier()
        self.left_at = time.monotonic()
        self.had_client = False

    @property
    def present(self) -> bool:
        """Whether there is any connection."""
        return bool(self._open)

    @contextmanager
    def registered(self, handshake: dict[str, Any]) -> Iterator[ConnectionInfo]:
        """Keep a connection in the list while it lasts.

        Args:
            handshake: The other side's half.
        """
        named, pid = handshake.get("folders"), handshake.get("pid")
        one = ConnectionInfo(
            kind=str(handshake.get("kind")),
            pid=pid if isinstance(pid, int) else 0,
            version=str(handshake.get("version", "")),
            folders=tuple(str(folder) for folder in named) if isinstance(named, list) else (),
            fingerprint=str(handshake.get("config", "")),
            only=bool(handshake.get("only")),
        )
        self._open.append(one)
        self.had_client = self.had_client or one.kind == "client"
        self._notifier.notify()
        try:
            yield one
        finally:
            self._open.remove(one)
            self.left_at = time.monotonic()
            self._notifier.notify()

    async def changed(self) -> None:
        """Wait until a connection opens or closes."""
        await self._notifier.wait()

    async def drain(self) -> None:
        """Accept no further call; return when all accepted ones are answered."""
        for one in list(self._open):
            await one.calls.drain()

    def status(self) -> tuple[RelayStatus, ...]:
        """Return the clients, for the status."""
        return tuple(
            RelayStatus(one.pid, one.version, one.since, one.folders, one.fingerprint == self._fingerprint)
            for one in self._open
            if one.kind == "client"
        )
