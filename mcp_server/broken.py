"""Stands in for an engine that could not be opened or has ended, so that the server goes on and says why.

A process that ends at a wrong setting leaves its client with "connection closed". This one answers: ``status`` shows
the error and its remedy, the other tools refuse with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NoReturn, cast

from indexer.errors import FolderMcpError
from indexer.history import History
from indexer.slot.slot_types import SlotStatus
from indexer.status_types import Halves, IndexStatus, OwnerStatus, Status, Work
from mcp_server.engine_port import EnginePort

if TYPE_CHECKING:
    from indexer.folders.registry import KnownFolder
    from mcp_server.engine_port import CompleteOwner


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
    """Fits ``EnginePort``: what waits for an index raises the error, by whatever name it is called."""

    def __init__(self, error: FolderMcpError, owner: OwnerStatus, complete_owner: CompleteOwner) -> None:
        self._error = error
        self._owner = owner
        self._complete_owner = complete_owner

    def __getattr__(self, name: str) -> Callable[..., Awaitable[NoReturn]]:
        if name.startswith("_") or name not in vars(EnginePort):
            raise AttributeError(name)
        return self._refuse

    def status(self, *, verbose: bool = False) -> Status:
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
