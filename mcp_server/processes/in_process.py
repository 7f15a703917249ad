"""The one engine of a process that serves its own client, opened with the first connection and closed with the last.

The server goes on when the engine fails: a wrong setting or a crash of the indexer becomes an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn, cast

import anyio

from indexer.config import Config
from indexer.errors import FolderMcpError, first_error
from indexer.history import History
from indexer.slot.slot_types import SlotStatus
from indexer.status_types import Halves, IndexStatus, OwnerStatus, Status, Work
from mcp_server.engine_port import ConnectionContext, EnginePort, Opener
from mcp_server.processes import timing
from mcp_server.processes.connections import register_folders
from mcp_server.record.record import Record
from mcp_server.version import release

if TYPE_CHECKING:
    from indexer.folders.registry import KnownFolder
    from mcp_server.engine_port import CompleteOwner

log = logging.getLogger(__name__)


class Host:
    """Opens the engine once for all connections. Use ``connect`` as the server's ``EngineSource``."""

    def __init__(
        self,
        config: Config | FolderMcpError,
        opener: Opener,
        *,
        folders: Sequence[str] = (),
        only: bool = False,
        answered: anyio.Event | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        """Keep what is needed to open.

        Args:
            config: The configuration, or why there is none.
            opener: Opens the engine.
            folders: Folders on the command line: registered, and searched by default.
            only: Whether nothing else may be seen.
            answered: Set when the first message has been answered; None where that is not known.
            notices: Sentences that every answer should have.
        """
        self._config = config
        self._opener = opener
        self._named = tuple(folders)
        self._only = only
        self._answered = answered
        self._notices = tuple(notices)
        self._context: ConnectionContext | None = None
        self._connections = 0
        self._lock = anyio.Lock()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[ConnectionContext]:
        """Yield the context of one connection; the first opens the engine, the last closes it."""
        async with self._lock:
            if self._context is None:
                self._context = await self._open()
            self._connections += 1
        context = self._context
        try:
            with context.engine.connected():
                yield context
        finally:
            with anyio.CancelScope(shield=True):
                async with self._lock:
                    self._connections -= 1
                    if not self._connections:
                        self._context = None
                        await self._close()

    async def _open(self) -> ConnectionContext:
        if isinstance(self._config, FolderMcpError):
            log.error("%s", self._config)
            context = ConnectionContext(failed_engine(self._config, release()), only=self._only)
            context.ready.set()
            return context
        opened: asyncio.Future[ConnectionContext] = asyncio.get_running_loop().create_future()
        # A task of its own, not a task group: the engine outlives the connection that opened it when others came.
        self._task = asyncio.create_task(self._keep(self._config, opened), name="engine")
        try:
            return await opened
        except asyncio.CancelledError:
            await self._close()
            raise

    async def _close(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        with anyio.CancelScope(shield=True):
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self, config: Config, opened: asyncio.Future[ConnectionContext]) -> None:
        """Keep the engine open until cancelled; if it ends by itself, calls from then on get the reason."""
        start = anyio.Event()
        context: ConnectionContext | None = None
        try:
            async with self._opener(config, start=start) as engine:
                context = ConnectionContext(
                    engine,
                    named=bool(self._named),
                    notices=[*self._notices],
                    only=self._only,
                    record=Record(config.data_dir, config.record),
                )
                opened.set_result(context)
                await self._prepare(config, context)
                start.set()
                await anyio.sleep_forever()
        except Exception as error:
            log.exception("the engine ended")
            failed = failed_engine(as_user_error(error), release(), str(config.data_dir))
            if context is None:
                context = ConnectionContext(failed, only=self._only)
                opened.set_result(context)
            context.engine = failed
            context.ready.set()

    async def _prepare(self, config: Config, context: ConnectionContext) -> None:
        """Wait for the first answer, then register the folders of the command line."""
        if self._answered is None:
            await anyio.sleep(timing.UNSEEN_ANSWER_S)
        else:
            with anyio.move_on_after(timing.FIRST_ANSWER_S):
                await self._answered.wait()
        await register_folders(config, context, self._named)


def as_user_error(error: Exception) -> FolderMcpError:
    """Return an error with a message on which a user can act."""
    found = first_error(error)
    if isinstance(found, FolderMcpError):
        return found
    return FolderMcpError(f"the indexer ended with {type(found).__name__}: {found}; restart the server, see its log")


# An engine that failed ----------------------------------------------------------------------------------------------
# Replaces an engine that could not be opened or has ended. A process that ends at a wrong setting leaves its client
# with "connection closed"; this one answers: ``status`` shows the error and its remedy, other tools refuse with it.


def failed_engine(
    error: FolderMcpError, version: str, data_dir: str = "", complete_owner: CompleteOwner | None = None
) -> EnginePort:
    """Return an engine whose status is the error, and whose other methods raise it or return nothing.

    Args:
        error: Why there is no engine.
        version: Of the program, for status.
        data_dir: The data directory, empty when it is not known.
        complete_owner: Adds to the owner's part of each status.
    """
    owner = OwnerStatus(os.getpid(), version, "uninitialized", str(error), 1, time.time(), data_dir)
    return cast(EnginePort, FailedEngine(error, owner, complete_owner or (lambda status: status)))


class FailedEngine:
    """Implements ``EnginePort``: every method that needs an index raises the error."""

    def __init__(self, error: FolderMcpError, owner: OwnerStatus, complete_owner: CompleteOwner) -> None:
        self._error = error
        self._owner = owner
        self._complete_owner = complete_owner

    def __getattr__(self, name: str) -> Callable[..., Awaitable[NoReturn]]:
        if name.startswith("_") or name not in vars(EnginePort):
            raise AttributeError(name)
        return self._refuse

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        """Show the error."""
        return Status(
            at=time.time(),
            owner=self._complete_owner(self._owner),
            services=Halves("unavailable", "unavailable"),
            slot=SlotStatus(),
            index=IndexStatus(0, 0, None, 0.0, None, str(self._error), ""),
            folders=(),
            work=Work(),
        )

    async def watch(self) -> AsyncIterator[Status]:
        """Yield the one snapshot there is."""
        yield self.status()

    async def history(self, after: float = 0.0) -> History:
        """Return that nothing happened."""
        return History(time.time(), self._owner.since)

    def folders(self) -> Sequence[KnownFolder]:
        """Return no folder."""
        return ()

    def connected(self) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()

    async def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise FolderMcpError(f"folder-mcp cannot start its index: {self._error}") from self._error
