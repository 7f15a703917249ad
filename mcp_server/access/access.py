"""What one request may see, and the engine that shows it no more than that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server.engine_port import EnginePort

if TYPE_CHECKING:
    from indexer.folders.registry import KnownFolder
    from indexer.history import History
    from indexer.status_types import IndexReport, Status
    from indexer.types import Answer, Query, Reading


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and what may be seen.

    Attributes:
        user: Name of a token, or the identity provider's subject; empty for the user at this machine.
        client: The program, as its ``clientInfo`` says.
        folders: Absolute paths that may be seen with all below them; None is all.
    """

    user: str = ""
    client: str = ""
    folders: tuple[str, ...] | None = None


class FencedEngine:
    """Implements ``EnginePort`` over another engine; answers as if only the allowed folders were indexed."""

    def __init__(self, engine: EnginePort, access: Access) -> None:
        self._engine = engine
        self.access = access

    async def search(self, query: Query) -> Answer:
        """Answer a query from the allowed folders."""
        raise NotImplementedError

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Return the text of an indexed file of the allowed folders."""
        raise NotImplementedError

    def status(self, *, verbose: bool = False) -> Status:
        """Return a snapshot of what may be seen."""
        raise NotImplementedError

    def watch(self) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change of what may be seen."""
        raise NotImplementedError

    async def history(self, after: float = 0.0) -> History:
        """Return what happened in the last hour, as far as it may be seen."""
        raise NotImplementedError

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index the allowed folders."""
        raise NotImplementedError

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Refuse: folders are the user's own decision."""
        raise NotImplementedError

    async def remove_folder(self, path: str) -> object:
        """Refuse: folders are the user's own decision."""
        raise NotImplementedError

    def folders(self) -> Sequence[KnownFolder]:
        """Return the allowed folders that are indexed."""
        raise NotImplementedError

    def connected(self) -> AbstractContextManager[None]:
        """Count a client for as long as it is connected."""
        return self._engine.connected()
