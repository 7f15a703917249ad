"""What this package needs of the indexer: the engine's methods, and what a connection is lent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import anyio

    from indexer.config import Config
    from indexer.folders.registry import KnownFolder
    from indexer.history import History
    from indexer.status_types import IndexReport, OwnerStatus, Status
    from indexer.types import Answer, Query, Reading


class EnginePort(Protocol):
    """The engine, as tools and commands use it. Every method answers in every state of the engine.

    A new method is written here, in ``indexer.engine.Engine``, in ``RemoteEngine`` and in the tests' fake engine.
    """

    async def search(self, query: Query) -> Answer:
        """Answer a query within the configured wait.

        Raises:
            QueryError: The query makes no sense; says why.
        """

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Return the text of an indexed file around a locator.

        Raises:
            QueryError: No such file in the index, or no such place in it.
        """

    def status(self, *, verbose: bool = False) -> Status:
        """Return a snapshot of everything. Never waits."""

    def watch(self) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change, rate-limited."""

    async def history(self, after: float = 0.0) -> History:
        """Return what happened in the last hour, or what of it came after a time. Never waits."""

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index until everything indexable is searchable by meaning, and report."""

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Remember a folder and begin to index it.

        Raises:
            FolderError: It cannot be indexed; says why.
        """

    async def remove_folder(self, path: str) -> object:
        """Forget a folder and take its text out of the index.

        Raises:
            FolderError: It is not known, or stands in the configuration file.
        """

    def folders(self) -> Sequence[KnownFolder]:
        """Return the folders being kept."""

    def connected(self) -> AbstractContextManager[None]:
        """Count a client for as long as it is connected."""


def _unset() -> anyio.Event:
    import anyio  # noqa: PLC0415 - the command line is parsed without it, so that the doctor can miss it

    return anyio.Event()


@dataclass(slots=True, eq=False)
class Lent:
    """What one connection works with.

    Attributes:
        engine: The one engine of this process, lent, never owned; another one when that has ended.
        named: Whether the connection named folders of its own.
        folders: Roots searched when a call names none; all when the connection named none.
        notices: What is wrong with the folders it named, one sentence each.
        ready: Set when ``folders`` and ``notices`` are complete.
    """

    engine: EnginePort
    named: bool = False
    folders: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    ready: anyio.Event = field(default_factory=_unset)


class Opener(Protocol):
    """Opens the engine."""

    def __call__(
        self, config: Config, *, start: anyio.Event | None = None, read_only: bool = False
    ) -> AbstractAsyncContextManager[EnginePort]:
        """Return an engine at once.

        Args:
            config: Where the data lies and how to work.
            start: The heavy part begins when this is set; None begins at once.
            read_only: Do not become the index's writer and load no model.
        """


EngineSource = Callable[[], AbstractAsyncContextManager[Lent]]
"""Entered once for a connection; opens nothing heavy and never raises."""

CompleteOwner = Callable[["OwnerStatus"], "OwnerStatus"]
"""Adds to the owner's part of a status what only its process knows, and not the engine."""
