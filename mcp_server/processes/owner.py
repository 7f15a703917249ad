"""The owner: listens, reports that it is ready, opens the engine in the background, serves, and ends.

``owner_process`` is the process around it; ``docs/processes.md`` has the whole design. Imports nothing heavy before it
has reported that it is ready: the MCP SDK and the engine come after that.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
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
from mcp_server import logs
from mcp_server.access.recorded_engine import recorded
from mcp_server.engine_port import ConnectionContext
from mcp_server.page.port import PageServer
from mcp_server.processes import handshake, timing
from mcp_server.processes.accepting import PendingHandshakes, accept_connections
from mcp_server.processes.connections import (
    Address,
    ConnectionInfo,
    Connections,
    ControlRequests,
    LineStream,
    NamedFolders,
    accept_handshake,
    listen,
)
from mcp_server.processes.open_engine import open_real
from mcp_server.processes.owner_lock import PROTOCOL, Location, OwnerFiles, OwnerLock, passed_over_sentence
from mcp_server.record.record import Asker, Record
from mcp_server.state_files import write_state
from mcp_server.version import newer, release

if TYPE_CHECKING:
    from indexer.status_types import OwnerStatus
    from mcp_server.engine_port import EnginePort
    from mcp_server.processes.http import HttpEndpoint

log = logging.getLogger(__name__)


RESTART = 75
"""Exit code (EX_TEMPFAIL) of an owner whose process must be replaced; relays start another."""
EXIT_DELAY = 5.0
"""Seconds from the last answer to the end of the process."""
CHECK = 60.0
"""Seconds between two checks that dialling our address reaches us."""
TICK = 10.0
"""Seconds between two checks whether indexing goes on, while no client is connected."""

OwnerOpener = Callable[..., AbstractAsyncContextManager["EnginePort"]]
"""``open_engine.open_real``: takes the configuration, ``start``, ``on_wedged`` and ``complete_owner``."""


class Owner:
    """The owner in its event loop.

    Attributes:
        start_successor: Whether the next owner should be started at once.
    """

    def __init__(
        self,
        location: Location,
        config: Config,
        owner_files: OwnerFiles,
        lock: OwnerLock,
        opener: OwnerOpener,
        http: HttpEndpoint | None = None,
    ) -> None:
        self._config = config
        self._owner_files = owner_files
        self._opener = opener
        self._http = http
        self._check = SelfCheck(location, config, owner_files, lock)
        self._about = {"instance": self._check.instance, "version": release(), "pid": os.getpid(), "only": True}
        self._connections = Connections(location.fingerprint)
        self._handshakes = PendingHandshakes()
        self._record = Record(config.data_dir, config.record)
        self._page = PageServer(
            owner_files.directory,
            lambda: self._recorded_engine("page"),
            lambda: self._connections.registered({"kind": "page"}),
        )
        self._engine: EnginePort | None = None
        self._contexts: set[ConnectionContext] = set()
        self._config_problem = ""
        self._session: Any = None
        self._server: Any = None
        self._opened = anyio.Event()
        self._folders = NamedFolders(config)
        self._first_answer = anyio.Event()
        self._over = anyio.Event()
        self._end_reason, self._exit_code = "", 0
        self._drain = timing.DRAIN_S
        self.start_successor = False

    def end(self, why: str, *, code: int = 0, drain: float = timing.DRAIN_S) -> None:
        """Begin the end; the first reason counts."""
        if self._over.is_set():
            return
        log.info("ends: %s", why)
        self._end_reason, self._exit_code, self._drain = why, code, drain
        self._over.set()

    async def run(
        self, address: Address, ready: Callable[[], None], ending: Callable[[int], None] | None = None
    ) -> int:
        """Serve until the end. Returns the exit code.

        Args:
            address: Where to listen.
            ready: Called when the endpoint answers.
            ending: Called with the exit code when calls in flight are answered and the engine is to be closed.
        """
        listener = await SocketListener.from_socket(address.socket)
        async with anyio.create_task_group() as tasks:
            accepting = anyio.CancelScope()

            async def accept() -> None:
                with accepting:
                    await accept_connections(
                        listener, lambda stream: self._accept(stream, address), tasks, self._handshakes
                    )

            tasks.start_soon(accept)
            tasks.start_soon(self._end_on_signals)
            if not await anyio.to_thread.run_sync(self._check.is_itself, address.endpoint):
                raise OSError(f"the address {address.endpoint} does not answer")
            self._check.write_state(address.endpoint)
            ready()
            tasks.start_soon(self._open)
            tasks.start_soon(self._check_periodically, address)
            tasks.start_soon(self._end_when_unused)
            tasks.start_soon(self._page.run)
            await self._over.wait()
            accepting.cancel()
            await listener.aclose()
            address.unlink()
            await self._page.shut_down(self._end_reason)
            with anyio.move_on_after(self._drain):
                await self._connections.drain()
            if ending is not None:
                ending(self._exit_code)
            tasks.cancel_scope.cancel()
        return self._exit_code

    # The engine ------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Import the protocol and open the engine; connections are accepted meanwhile."""
        start = anyio.Event()
        try:
            self._session = await anyio.to_thread.run_sync(_import_session, abandon_on_cancel=True)
            callbacks = {"on_wedged": self._end_wedged, "complete_owner": self._complete_owner}
            async with self._opener(self._config, start=start, **callbacks) as engine:
                self._engine = engine
                context = ConnectionContext(engine, record=self._record)
                self._contexts.add(context)
                self._server = self._session.create_session_server(context)
                self._opened.set()
                if self._http is not None:
                    await self._serve_http(context, self._http, start)
                with anyio.move_on_after(timing.FIRST_ANSWER_S):
                    await self._first_answer.wait()
                start.set()
                await anyio.sleep_forever()
        except Exception as error:  # status still answers, and says what ended it
            log.exception("the engine ended")
            self._replace_engine(error)

    async def _serve_http(self, context: ConnectionContext, http: HttpEndpoint, start: anyio.Event) -> None:
        context.named, context.only, context.by_token = bool(http.folders), http.only, True
        start.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._folders.add, context, http.folders)
            await http.serve(self._server, context.engine.status)

    def _replace_engine(self, error: Exception) -> None:
        """Replace the engine that has ended by a failed one, also for connections that are open."""
        from mcp_server.processes.in_process import as_user_error, failed_engine  # noqa: PLC0415 - only after a failure

        if self._engine is None or self._server is None:
            self.end(f"it cannot serve: {error}", code=1)
            return
        self._engine = failed_engine(as_user_error(error), release(), str(self._config.data_dir), self._complete_owner)
        for context in self._contexts:
            context.engine = self._engine
        self._opened.set()

    def _complete_owner(self, status: OwnerStatus) -> OwnerStatus:
        """Add the clients, and what is wrong with the configuration, to the owner's part of a status."""
        relays = self._connections.status()
        # Commands take a detail of an owner that still opens for the reason why it does not.
        passed_over = passed_over_sentence(self._owner_files) if status.state in ("serving", "read_only") else ""
        detail = " ".join(filter(None, (status.detail, self._config_problem, self._record.problem, passed_over)))
        return replace(status, relays=relays, clients=len(relays), detail=detail)

    def _end_wedged(self, reason: str) -> None:
        self.end(f"only a new process helps: {reason}", code=RESTART)

    async def _engine_when_open(self) -> EnginePort:
        await self._opened.wait()
        assert self._engine is not None
        return self._engine

    async def _recorded_engine(self, client: str) -> EnginePort:
        """Return the engine, when there is one, for what does not come through the tools: its answers are recorded."""
        return recorded(await self._engine_when_open(), self._record, Asker(client, release()))

    # Connections -----------------------------------------------------------------------------------------------

    async def _accept(self, stream: SocketStream, address: Address) -> None:
        try:
            async with stream:
                connection = None
                with self._handshakes.limited():
                    connection = await accept_handshake(stream, address, self._about)
                if connection is None or self._over.is_set() or connection.handshake.get("kind") == "check":
                    return  # a check must not keep an owner that nobody uses
                with self._connections.registered(connection.handshake) as info:
                    await self._serve_kind(connection, info)
        except Exception:  # one connection must not take the others with it
            log.exception("a connection failed")

    async def _serve_kind(self, connection: LineStream, info: ConnectionInfo) -> None:
        if info.kind == "client":
            await self._serve(connection, info)
        elif info.kind == "control":
            requests = ControlRequests(
                lambda: self._recorded_engine("command"), self._end_on_request, self._page.address
            )
            await requests.serve(connection)
        elif info.kind == "presence":  # a command at work: the owner stays while it is connected
            await connection.receive_line()

    async def _serve(self, connection: LineStream, info: ConnectionInfo) -> None:
        engine = await self._engine_when_open()
        context = ConnectionContext(engine, named=bool(info.folders), only=info.only, record=self._record)
        self._contexts.add(context)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._folders.add, context, info.folders)
                tasks.start_soon(self._note_first_answer, info)
                with engine.connected():
                    await self._session.serve_session(self._server, connection, context, info.calls)
                tasks.cancel_scope.cancel()
        finally:
            self._contexts.discard(context)

    async def _note_first_answer(self, info: ConnectionInfo) -> None:
        await info.calls.first_answered.wait()
        self._first_answer.set()

    def _end_on_request(self, do: str, version: str) -> None:
        if do == "stand_down":
            if not newer(version, release()):
                return
            write_state(self._owner_files.successor_file, {"version": version})
        self.end(f"{do} {version}".strip())

    # The end ---------------------------------------------------------------------------------------------------

    async def _end_on_signals(self) -> None:
        if sys.platform == "win32":
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                self.end(number.name, drain=2.0)

    async def _end_when_unused(self) -> None:
        busy_at, owner = time.monotonic(), self._config.owner
        while True:
            if self._connections.present or self._http is not None:
                await self._connections.changed()
                busy_at = time.monotonic()
                continue
            work = self._engine is None or has_work(self._engine.status())
            if work:
                busy_at = time.monotonic()
            at = idle_deadline(
                left_at=self._connections.left_at,
                busy_at=busy_at,
                work=work,
                had_client=self._connections.had_client,
                linger=owner.linger,
                idle_exit=owner.idle_exit,
            )
            left = at - time.monotonic()
            if left <= 0:
                self.end("nobody needs it" if not work else "unfinished, but nobody was here for too long")
                return
            with anyio.move_on_after(min(left, TICK)):
                await self._connections.changed()

    async def _check_periodically(self, address: Address) -> None:
        """Check that dialling our address still reaches us, and whether the configuration changed."""
        while True:
            await anyio.sleep(CHECK)
            if not await anyio.to_thread.run_sync(self._check.is_itself, abandon_on_cancel=True):
                self.end(f"another one is behind {address.endpoint}, or nobody")
            await anyio.to_thread.run_sync(self._check.touch)
            try:
                changed = await anyio.to_thread.run_sync(self._check.changed_config)
            except ConfigError as error:
                log.warning("the configuration changed and is wrong; going on with the old one: %s", error)
                self._config_problem = f"The changed configuration is not in use: {error}"
                continue
            if changed:  # the next owner starts with the new one
                self.start_successor = True
                self.end("the configuration changed")


def _import_session() -> Any:
    """Import MCP on a connection, and with it the SDK: a second or two of work."""
    from mcp_server.processes import session  # noqa: PLC0415 - not before the owner is ready

    return session


# The process around it ----------------------------------------------------------------------------------------------


def run_owner(
    location: Location,
    lock: OwnerLock,
    opener: OwnerOpener | None,
    report: Callable[[str], None],
    *,
    tcp: bool,
    verbose: bool,
) -> tuple[int, bool]:
    """Run the owner in this process. Returns the exit code, and whether the next owner should be started.

    Args:
        location: The configuration and the data directory.
        lock: Of the data directory, acquired.
        opener: Opens the engine; None is the real one.
        report: Tells the process that started this one how it went.
        tcp: Listen on loopback instead of a unix socket.
        verbose: Also log details to stderr.
    """
    owner_files = lock.owner_files
    _unlink(owner_files.state_file)  # left by an owner that was killed
    try:
        config = configuration(location)
    except ConfigError as error:
        report(f"ERROR {error}")
        return 2, False
    logs.configure(logs.folder_for(config.data_dir), verbose=verbose)
    if owner_files.passed_over:
        log.warning("%s", passed_over_sentence(owner_files))
    # The SDK makes very many objects that live for ever: collecting them takes a tenth of the time of its import.
    gc.disable()

    def open_after_import(*args: Any, **options: Any) -> AbstractAsyncContextManager[EnginePort]:
        gc.freeze()
        gc.enable()
        return (opener or open_real)(*args, **options)

    owner = Owner(location, config, owner_files, lock, open_after_import)

    async def run() -> int:
        address = listen(owner_files, os.urandom(4).hex(), tcp=tcp)
        return await owner.run(address, lambda: report("READY"), exit_after_delay)

    try:
        code = anyio.run(run)
    except OSError as error:
        report(f"ERROR {error}")
        return 1, False
    finally:
        _unlink(owner_files.state_file)
    return code, owner.start_successor


def exit_after_delay(code: int) -> None:
    """End the process ``EXIT_DELAY`` seconds from now, whatever its threads are doing."""
    timer = threading.Timer(EXIT_DELAY, os._exit, (code,))
    timer.daemon = True
    timer.start()


def exit_now(code: int) -> None:
    """End the process without waiting for its threads; what they do is not needed any more."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


# Idle exit ----------------------------------------------------------------------------------------------------------
# When an owner without clients ends. Pure.

WORKING = frozenset({"waiting", "scanning", "reading", "embedding"})
"""States of a folder in which indexing goes on by itself; a blocked folder needs the user."""


def has_work(status: Status) -> bool:
    """Whether indexing is unfinished and goes on."""
    if status.owner.state in ("uninitialized", "initializing"):
        return True
    return any(folder.state in WORKING for folder in status.folders)


def idle_deadline(
    *, left_at: float, busy_at: float, work: bool, had_client: bool, linger: float, idle_exit: float
) -> float:
    """Return when the owner ends if nothing changes; the clock is that of the arguments, seconds.

    Args:
        left_at: When the last client left.
        busy_at: When there last was a client or work.
        work: Whether indexing is unfinished.
        had_client: Whether there ever was a client.
        linger: Seconds unfinished indexing may go on without a client; 0 ends with the last client.
        idle_exit: Seconds without client and work.
    """
    if had_client and not linger:
        return left_at
    if work and linger:
        return left_at + linger
    return max(left_at, busy_at) + idle_exit


# Self-check ---------------------------------------------------------------------------------------------------------
# Whether relays that dial this owner reach it, and the owner's state file.


class SelfCheck:
    """Checks of one owner. Everything here uses the disk or dials: call it in a thread.

    Attributes:
        instance: Identifies this owner among all that there ever were.
    """

    def __init__(self, location: Location, config: Config, owner_files: OwnerFiles, lock: OwnerLock) -> None:
        self.instance = os.urandom(8).hex()
        self._location = location
        self._config = config
        self._owner_files = owner_files
        self._lock = lock
        self._config_mtime = _mtime(config.config_file)

    def is_itself(self, endpoint: dict[str, Any] | None = None) -> bool:
        """Whether the lock is ours and dialling reaches this owner.

        Args:
            endpoint: Dial this one; None dials that of the state file.
        """
        if not self._lock.holds():
            return False
        try:
            connection, answer = handshake.dial(
                self._owner_files, handshake.handshake_request("check"), 30.0, endpoint
            )
        except handshake.HandshakeTimeout as error:
            error.connection.close()
            return True  # our own loop is busy: slow, but not another process
        except (handshake.OwnerNotFound, handshake.HandshakeRefused):
            return False
        except OSError:  # no descriptor for a socket of our own: nothing is known
            return True
        connection.close()
        return bool(answer.get("instance") == self.instance)

    def write_state(self, endpoint: dict[str, Any]) -> None:
        """Write the state file, from which relays learn the endpoint."""
        about = {"protocol": PROTOCOL, "instance": self.instance, "pid": os.getpid(), "version": release()}
        write_state(
            self._owner_files.state_file, {**about, "endpoint": endpoint, "data_dir": str(self._config.data_dir)}
        )

    def touch(self) -> None:
        """Update the times of our files: some systems delete what was not used for days in temporary directories."""
        with suppress(OSError):  # one has been replaced, or no descriptor is left
            for path in Path(self._owner_files.directory).iterdir():
                os.utime(path)

    def changed_config(self) -> bool:
        """Whether the configuration has changed since it was read.

        Raises:
            ConfigError: It changed, and is wrong.
        """
        found = _mtime(self._config.config_file)
        if found == self._config_mtime:
            return False
        self._config_mtime = found
        return configuration(self._location) != self._config


def configuration(location: Location) -> Config:
    """Read the configuration of an owner.

    Raises:
        ConfigError: It is wrong.
    """
    file = Path(location.config) if location.config else None
    environ = os.environ  # environment: reduced to the user's part by the process that started us
    return load_config(file, data_dir=Path(location.data_dir), environ=environ)


def _mtime(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0
