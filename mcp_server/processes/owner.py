"""The owner's life: listen, say that we are ready, import and open in the background, serve, and end.

``candidate`` is the process around it; ``docs/processes.md`` tells the whole story.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketListener, SocketStream

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from indexer.status_types import Status
from mcp_server.engine_port import ConnectionContext
from mcp_server.page.port import PagePort
from mcp_server.processes import handshake, timing
from mcp_server.processes.connections import Address, Clients, Connected, NamedFolders, Requests, Visitor, welcome
from mcp_server.processes.owner_lock import PROTOCOL, Location, OwnerLock, Place
from mcp_server.state_files import write_state
from mcp_server.version import newer, release

if TYPE_CHECKING:
    from indexer.status_types import OwnerStatus
    from mcp_server.engine_port import EnginePort
    from mcp_server.processes.http import Door

log = logging.getLogger(__name__)


RESTART = 75
"""Exit code (EX_TEMPFAIL) of an owner whose process must be replaced; relays start another."""
CHECK = 60.0
"""Seconds between two looks at whether we are still behind our own address."""
TICK = 10.0
"""Seconds between two looks at whether work goes on, while no client is there."""

OwnerOpener = Callable[..., AbstractAsyncContextManager["EnginePort"]]
"""``opening.open_real``: takes the configuration, ``start``, ``on_wedged`` and ``complete_owner``."""


class Owner:
    """The owner's life in its event loop.

    Attributes:
        successor: Whether the next owner should be started at once.
    """

    def __init__(
        self,
        location: Location,
        config: Config,
        place: Place,
        claim: OwnerLock,
        opener: OwnerOpener,
        door: Door | None = None,
    ) -> None:
        self._config = config
        self._place = place
        self._opener = opener
        self._door = door
        self._check = SelfCheck(location, config, place, claim)
        self._clients = Clients(location.fingerprint)
        self._page = PagePort(place.directory, self._engine_when_open, lambda: self._clients.entered({"kind": "page"}))
        self._engine: EnginePort | None = None
        self._context: set[ConnectionContext] = set()
        self._remark = ""
        self._server: Any = None
        self._opened = anyio.Event()
        self._named = NamedFolders(config)
        self._first_answer = anyio.Event()
        self._over = anyio.Event()
        self._why, self._code = "", 0
        self._drain = timing.DRAIN_S
        self.successor = False

    def end(self, why: str, *, code: int = 0, drain: float = timing.DRAIN_S) -> None:
        """Begin to end; the first reason counts."""
        if self._over.is_set():
            return
        log.info("ends: %s", why)
        self._why, self._code, self._drain = why, code, drain
        self._over.set()

    async def run(
        self, address: Address, ready: Callable[[], None], ending: Callable[[int], None] | None = None
    ) -> int:
        """Live. Returns the exit code.

        Args:
            address: Where to listen.
            ready: Called when the endpoint answers.
            ending: Called with the exit code when calls in flight are answered and the engine is to be closed.
        """
        listener = await SocketListener.from_socket(address.socket)
        async with anyio.create_task_group() as tasks:
            accepting = anyio.CancelScope()

            async def accept() -> None:
                with accepting, suppress(anyio.ClosedResourceError):  # closed as somebody was being received
                    await listener.serve(lambda stream: self._receive(stream, address), tasks)

            tasks.start_soon(accept)
            tasks.start_soon(self._on_signals)
            if not await anyio.to_thread.run_sync(self._check.is_itself, address.endpoint):
                raise OSError(f"the address {address.endpoint} does not answer")
            self._check.write_note(address.endpoint)
            ready()
            tasks.start_soon(self._open)
            tasks.start_soon(self._look_now_and_then, address)
            tasks.start_soon(self._end_when_unused)
            tasks.start_soon(self._page.run)
            await self._over.wait()
            accepting.cancel()
            await listener.aclose()
            address.forget()
            await self._page.farewell(self._why)
            with anyio.move_on_after(self._drain):
                await self._clients.quiet()
            if ending is not None:
                ending(self._code)
            tasks.cancel_scope.cancel()
        return self._code

    # The engine ------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Import the protocol, open the engine; neither keeps anybody from being received."""
        start = anyio.Event()
        try:
            server = await anyio.to_thread.run_sync(_import_server, abandon_on_cancel=True)
            told = {"on_wedged": self._wedged, "complete_owner": self._complete}
            async with self._opener(self._config, start=start, **told) as engine:
                self._engine = engine
                context = ConnectionContext(engine)
                self._context.add(context)
                self._server = server(context)
                self._opened.set()
                if self._door is not None:
                    await self._serve_door(context, self._door, start)
                with anyio.move_on_after(timing.FIRST_ANSWER_S):
                    await self._first_answer.wait()
                start.set()
                await anyio.sleep_forever()
        except Exception as error:  # what ends the engine must not end the answers
            log.exception("the engine ended")
            self._go_on_without(error)

    async def _serve_door(self, context: ConnectionContext, door: Door, start: anyio.Event) -> None:
        context.named = bool(door.folders)
        start.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._named.bring, context, door.folders)
            await door.serve(self._server, context.engine.status)

    def _go_on_without(self, error: Exception) -> None:
        """Put a failed engine in the place of the one that has ended, for connections that are open as well."""
        from mcp_server.processes.in_process import (  # noqa: PLC0415
            failed_engine,
            shown,
        )

        if self._engine is None or self._server is None:
            self.end(f"it cannot serve: {error}", code=1)
            return
        self._engine = failed_engine(shown(error), release(), str(self._config.data_dir), self._complete)
        for context in self._context:
            context.engine = self._engine
        self._opened.set()

    def _complete(self, status: OwnerStatus) -> OwnerStatus:
        """Add who is connected, and what the owner has to say, to the owner's part of a status."""
        relays = self._clients.status()
        detail = " ".join(filter(None, (status.detail, self._remark)))
        return replace(status, relays=relays, clients=len(relays), detail=detail)

    def _wedged(self, reason: str) -> None:
        self.end(f"only a new process helps: {reason}", code=RESTART)

    async def _engine_when_open(self) -> EnginePort:
        await self._opened.wait()
        assert self._engine is not None
        return self._engine

    # Connections -----------------------------------------------------------------------------------------------

    async def _receive(self, stream: SocketStream, address: Address) -> None:
        async with stream:
            about = {"instance": self._check.instance, "version": release(), "pid": os.getpid()}
            visitor = await welcome(stream, address, about)
            if visitor is None or self._over.is_set() or visitor.hello.get("kind") == "check":
                return  # who only looks whether we are here is no reason to stay
            with self._clients.entered(visitor.hello) as connected:
                try:
                    if connected.kind == "client":
                        await self._serve(visitor, connected)
                    elif connected.kind == "control":
                        await Requests(self._engine_when_open, self._asked_to_end, self._page.address).serve(visitor)
                    elif connected.kind == "presence":  # a command at work: it wants to find us here the next time
                        await visitor.line()
                except Exception:  # one connection must not take the others with it
                    log.exception("the connection of process %d failed", connected.pid)

    async def _serve(self, visitor: Visitor, connected: Connected) -> None:
        engine = await self._engine_when_open()
        from mcp_server.processes.session import serve_session  # noqa: PLC0415 - imports the SDK, which is there by now

        context = ConnectionContext(engine, named=bool(connected.folders))
        self._context.add(context)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._named.bring, context, connected.folders)
                tasks.start_soon(self._note_first_answer, connected)
                with engine.connected():
                    await serve_session(self._server, visitor, context, connected.traffic)
                tasks.cancel_scope.cancel()
        finally:
            self._context.discard(context)

    async def _note_first_answer(self, connected: Connected) -> None:
        await connected.traffic.served.wait()
        self._first_answer.set()

    def _asked_to_end(self, do: str, version: str) -> None:
        if do == "stand_down":
            if not newer(version, release()):
                return
            write_state(self._place.heir, {"version": version, "at": time.time()})
        self.end(f"{do} {version}".strip())

    # Ends ------------------------------------------------------------------------------------------------------

    async def _on_signals(self) -> None:
        if sys.platform == "win32":
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                self.end(number.name, drain=2.0)

    async def _end_when_unused(self) -> None:
        busy_at, owner = time.monotonic(), self._config.owner
        while True:
            if self._clients.present or self._door is not None:
                await self._clients.changed()
                busy_at = time.monotonic()
                continue
            work = self._engine is None or working(self._engine.status())
            if work:
                busy_at = time.monotonic()
            at = end_at(
                left_at=self._clients.left_at,
                busy_at=busy_at,
                work=work,
                any_yet=self._clients.any_yet,
                linger=owner.linger,
                idle_exit=owner.idle_exit,
            )
            left = at - time.monotonic()
            if left <= 0:
                self.end("nobody needs it" if not work else "unfinished, but nobody was here for too long")
                return
            with anyio.move_on_after(min(left, TICK)):
                await self._clients.changed()

    async def _look_now_and_then(self, address: Address) -> None:
        """Check that we are still the one others find, and whether the configuration changed."""
        while True:
            await anyio.sleep(CHECK)
            if not await anyio.to_thread.run_sync(self._check.is_itself, abandon_on_cancel=True):
                self.end(f"another one is behind {address.endpoint}, or nobody")
            await anyio.to_thread.run_sync(self._check.touch)
            try:
                changed = await anyio.to_thread.run_sync(self._check.changed_config)
            except ConfigError as error:
                log.warning("the configuration changed and is wrong; going on with the old one: %s", error)
                self._remark = f"The changed configuration is not in use: {error}"
                continue
            if changed:  # the next owner begins with it
                self.successor = True
                self.end("the configuration changed")


def _import_server() -> Callable[[ConnectionContext], Any]:
    """Import the protocol, a second or two of work; return what makes the server."""
    from mcp_server.processes import session  # noqa: PLC0415

    return session.server_of


# Idle exit ----------------------------------------------------------------------------------------------------------
# When an owner that nobody uses ends. Pure.

WORKING = frozenset({"waiting", "scanning", "reading", "embedding"})
"""States of a folder in which indexing goes on by itself. Blocked ones wait for something that no waiting helps."""


def working(status: Status) -> bool:
    """Whether indexing is unfinished and goes on."""
    if status.owner.state in ("uninitialized", "initializing"):
        return True
    return any(folder.state in WORKING for folder in status.folders)


def end_at(*, left_at: float, busy_at: float, work: bool, any_yet: bool, linger: float, idle_exit: float) -> float:
    """Return when the owner ends if nothing changes; the clock is that of the arguments, seconds.

    Args:
        left_at: When the last client left.
        busy_at: When there was last a client or work.
        work: Whether indexing is unfinished.
        any_yet: Whether there ever was a client.
        linger: Seconds unfinished indexing may go on without a client; 0 ends with the last client.
        idle_exit: Seconds without client and work.
    """
    if any_yet and not linger:
        return left_at
    if work and linger:
        return left_at + linger
    return max(left_at, busy_at) + idle_exit


# Self-check ---------------------------------------------------------------------------------------------------------
# Whether an owner is still the one others find, and what it says of itself on disk.


class SelfCheck:
    """One owner's. Everything here touches the disk or dials: call it in a thread.

    Attributes:
        instance: Names this owner, apart from all others there ever were.
    """

    def __init__(self, location: Location, config: Config, place: Place, claim: OwnerLock) -> None:
        self.instance = os.urandom(8).hex()
        self._location = location
        self._config = config
        self._place = place
        self._claim = claim
        self._read_at = _time_of(config.config_file)

    def is_itself(self, endpoint: dict[str, Any] | None = None) -> bool:
        """Whether the lock is ours and whoever dials reaches us.

        Args:
            endpoint: Look there; None looks where the note points.
        """
        if not self._claim.holds():
            return False
        try:
            line, answer = handshake.dial(self._place, handshake.greeting("check"), 30.0, endpoint)
        except handshake.Silent as silent:
            silent.line.close()
            return True  # our own loop is busy: slow, not somebody else
        except (handshake.NotThere, handshake.Refused):
            return False
        line.close()
        return bool(answer.get("instance") == self.instance)

    def write_note(self, endpoint: dict[str, Any]) -> None:
        """Say where we are."""
        about = {"protocol": PROTOCOL, "instance": self.instance, "pid": os.getpid(), "version": release()}
        write_state(self._place.note, {**about, "endpoint": endpoint, "data_dir": str(self._config.data_dir)})

    def touch(self) -> None:
        """Show our files as used: some systems clear what has lain in temporary directories for days."""
        for path in Path(self._place.directory).iterdir():
            os.utime(path)

    def changed_config(self) -> bool:
        """Whether the configuration says something else since we read it.

        Raises:
            ConfigError: It changed, and is wrong.
        """
        found = _time_of(self._config.config_file)
        if found == self._read_at:
            return False
        self._read_at = found
        return configuration(self._location) != self._config


def configuration(location: Location) -> Config:
    """Read the configuration an owner works by.

    Raises:
        ConfigError: It is wrong.
    """
    file = Path(location.config) if location.config else None
    mine = os.environ  # house: scrubbed by whoever started us
    return load_config(file, data_dir=Path(location.data_dir), environ=mine)


def _time_of(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0
