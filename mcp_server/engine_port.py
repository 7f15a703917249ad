"""The engine as this package sees it: its methods, what a connection works with, and their JSON form."""

from __future__ import annotations

import types
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from mcp_server.record.record import NO_RECORD, Record

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
            QueryError: The query is invalid; says why.
        """

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Return the text of an indexed file around a locator.

        Raises:
            QueryError: No such file in the index, or no such locator in it.
        """

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        """Return a snapshot of everything, and of parts of folders as if each was a folder. Never waits."""

    def watch(self) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change, rate-limited."""

    async def history(self, after: float = 0.0) -> History:
        """Return what happened in the last hour, or the part of it after a time. Never waits."""

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index until everything indexable has embeddings, and report."""

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Register a folder and begin to index it.

        Raises:
            FolderError: It cannot be indexed; says why.
        """

    async def remove_folder(self, path: str) -> object:
        """Unregister a folder and remove its text from the index.

        Raises:
            FolderError: It is not registered, or the configuration file has it.
        """

    def folders(self) -> Sequence[KnownFolder]:
        """Return the folders that are indexed."""

    def connected(self) -> AbstractContextManager[None]:
        """Count a client for as long as it is connected."""


def _new_event() -> anyio.Event:
    import anyio  # noqa: PLC0415 - the doctor must start without it

    return anyio.Event()


@dataclass(slots=True, eq=False)
class ConnectionContext:
    """What one connection works with.

    Attributes:
        engine: The one engine of this process; a failed one when that has ended.
        named: Whether the connection named folders of its own.
        folders: Roots searched when a call names none; all when the connection named none.
        notices: Why folders that it named are refused, one sentence each.
        ready: Set when ``folders``, ``notices`` and ``limits`` are complete.
        only: Whether the folders that it named are all that it may see.
        by_token: Whether only requests of a user who is known by a token see anything.
        limits: With ``only``: what it may see, absolute paths with links resolved; nothing until they are known.
        record: Gets a line for each answer.
    """

    engine: EnginePort
    named: bool = False
    folders: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    ready: anyio.Event = field(default_factory=_new_event)
    only: bool = False
    by_token: bool = False
    limits: tuple[str, ...] = ()
    record: Record = NO_RECORD


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


EngineSource = Callable[[], AbstractAsyncContextManager[ConnectionContext]]
"""Entered once for a connection; opens nothing heavy and never raises."""

CompleteOwner = Callable[["OwnerStatus"], "OwnerStatus"]
"""Adds to the owner's part of a status what its process knows and the engine does not."""


# JSON form ----------------------------------------------------------------------------------------------------------
# Calls of the engine as JSON and back, between the owner and our own commands. Written by hand because paths may hold
# bytes that are not text: they travel as lone surrogates, which JSON can escape and stricter writers refuse.


def to_json(value: Any) -> Any:
    """Return a dataclass, or a sequence of them, as dicts and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(kind: Any, value: Any) -> Any:
    """Return the value of a type from its JSON form; unknown fields are ignored, missing ones have defaults.

    Args:
        kind: A dataclass, ``tuple[...]``, a sequence or an optional of these, or a type of JSON itself.
        value: As ``json.loads`` gives it.

    Raises:
        TypeError: A field without a default is missing.
    """
    origin = typing.get_origin(kind)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return from_json(next(part for part in typing.get_args(kind) if part is not types.NoneType), value)
    if origin in (tuple, Sequence):
        parts = typing.get_args(kind)
        if parts[-1] is Ellipsis or origin is Sequence:
            return tuple(from_json(parts[0], item) for item in value)
        return tuple(from_json(part, item) for part, item in zip(parts, value, strict=True))
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        given: Mapping[str, Any] = value
        return kind(**{name: from_json(hint, given[name]) for name, hint in hints.items() if name in given})
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    resolved = typing.get_type_hints(kind)
    return {each.name: resolved[each.name] for each in fields(kind)}


@cache
def method_types(method: str) -> Mapping[str, Any]:
    """Types of the arguments of a method of ``EnginePort`` by name, and of what it returns as ``return``.

    Empty when there is no such method, or none that another process can call.
    """
    from indexer import history, status_types  # noqa: PLC0415 - where calls cross a process only
    from indexer import types as types_module  # noqa: PLC0415
    from indexer.folders import registry  # noqa: PLC0415

    if method.startswith("_") or method == "connected" or method not in vars(EnginePort):
        return {}
    names = {**vars(types_module), **vars(history), **vars(registry), **vars(status_types)}
    return typing.get_type_hints(getattr(EnginePort, method), localns=names)
