"""A stand-in engine for a server that cannot open one: alive, and saying why.

A process that ends at a wrong setting leaves its client with "connection closed". This one answers: ``status`` shows
the error and its remedy, the other tools refuse with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NoReturn

from indexer.errors import FolderMcpError
from indexer.history import History
from indexer.model.snapshot import SlotStatus
from indexer.status import Halves, IndexStatus, OwnerStatus, Status, Work

if TYPE_CHECKING:
    from indexer.answer import Answer, Query, Reading
    from indexer.known_folders import KnownFolder
    from indexer.status import IndexReport


class BrokenEngine:
    """Answers everything with one error. Fits ``EnginePort``."""

    def __init__(self, error: FolderMcpError, version: str, data_dir: str = "") -> None:
        self._error = error
        self._version = version
        self._data_dir = data_dir
        self._since = time.time()

    async def search(self, query: Query) -> Answer:
        """Refuse."""
        self._refuse()

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Refuse."""
        self._refuse()

    def status(self, *, verbose: bool = False) -> Status:
        """Show the error."""
        return Status(
            at=time.time(),
            owner=OwnerStatus(
                os.getpid(), self._version, "uninitialized", str(self._error), 1, self._since, self._data_dir
            ),
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
        return History(time.time(), self._since)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Refuse."""
        self._refuse()

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Refuse."""
        self._refuse()

    async def remove_folder(self, path: str) -> object:
        """Refuse."""
        self._refuse()

    def folders(self) -> Sequence[KnownFolder]:
        """Return no folder."""
        return ()

    def connected(self) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()

    def _refuse(self) -> NoReturn:
        raise FolderMcpError(f"folder-mcp cannot start its index: {self._error}") from self._error
