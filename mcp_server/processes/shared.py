"""The one engine as every connection of the owner sees it: with what only the owner knows in its status."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server.processes.traffic import Clients

if TYPE_CHECKING:
    from indexer.answer import Answer, Query, Reading
    from indexer.history import History
    from indexer.known_folders import KnownFolder
    from indexer.status import IndexReport, Status
    from mcp_server.port import EnginePort


class SharedEngine:
    """Passes everything on to an engine. Fits ``EnginePort``.

    Attributes:
        inner: The engine; replaced when it ended.
        remarks: What the owner has to say in its status, by subject.
    """

    def __init__(self, inner: EnginePort, clients: Clients) -> None:
        self.inner = inner
        self.remarks: dict[str, str] = {}
        self._clients = clients

    async def search(self, query: Query) -> Answer:
        """Search."""
        return await self.inner.search(query)

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read."""
        return await self.inner.read(path, locator, max_chars=max_chars)

    def status(self, *, verbose: bool = False) -> Status:
        """Show everything, and who is connected."""
        return self._completed(self.inner.status(verbose=verbose))

    async def watch(self) -> AsyncIterator[Status]:
        """Show everything, again after every change."""
        async for status in self.inner.watch():
            yield self._completed(status)

    async def history(self, after: float = 0.0) -> History:
        """Tell what happened."""
        return await self.inner.history(after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index."""
        return await self.inner.index(folders)

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Add a folder."""
        return await self.inner.add_folder(path, model)

    async def remove_folder(self, path: str) -> object:
        """Remove a folder."""
        return await self.inner.remove_folder(path)

    def folders(self) -> Sequence[KnownFolder]:
        """List the folders."""
        return self.inner.folders()

    def connected(self) -> AbstractContextManager[None]:
        """Count a client."""
        return self.inner.connected()

    def _completed(self, status: Status) -> Status:
        relays = self._clients.status()
        detail = " ".join(filter(None, (status.owner.detail, *self.remarks.values())))
        return replace(status, owner=replace(status.owner, relays=relays, clients=len(relays), detail=detail))
