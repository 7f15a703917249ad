"""The owner's engine, from another process: every method is a request over a connection of its own."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio

from indexer import errors
from indexer.errors import FolderMcpError, StoreError
from indexer.folders.registry import KnownFolder
from indexer.history import History
from indexer.status_types import IndexReport, Status
from indexer.types import Answer, Query, Reading
from mcp_server.engine_port import EnginePort, call_types, made, plain
from mcp_server.processes import timing
from mcp_server.processes.attach import Attached
from mcp_server.processes.handshake import Line, NotThere, Refused, Silent, greeting

if TYPE_CHECKING:
    from mcp_server.processes.attach import Attachment

P = ParamSpec("P")
T = TypeVar("T")


class RemoteEngine:
    """Fits ``EnginePort``. Use it in processes that have nothing else to do: ``status`` and ``folders`` block."""

    def __init__(self, attachment: Attachment, *, start: bool) -> None:
        """Keep what is needed.

        Args:
            attachment: Finds the owner.
            start: Whether to start another owner when this one ends.
        """
        self._attachment = attachment
        self._start = start

    async def search(self, query: Query) -> Answer:
        """Search; see ``EnginePort``."""
        return await self._ask(EnginePort.search, query)

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read; see ``EnginePort``."""
        return await self._ask(EnginePort.read, path, locator, max_chars=max_chars)

    def status(self, *, verbose: bool = False) -> Status:
        """Show everything; see ``EnginePort``."""
        return self._ask_now(EnginePort.status, verbose=verbose)

    async def watch(self) -> AsyncIterator[Status]:
        """Show everything, again after every change; see ``EnginePort``."""
        line = await anyio.to_thread.run_sync(self._request, "watch", {})
        try:
            while True:
                document = await anyio.to_thread.run_sync(self._heard, line, None, abandon_on_cancel=True)
                yield made(Status, document["event"])
        finally:
            line.close()

    async def history(self, after: float = 0.0) -> History:
        """Tell what happened; see ``EnginePort``."""
        return await self._ask(EnginePort.history, after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index; see ``EnginePort``."""
        return await self._ask(EnginePort.index, folders)

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Add a folder; see ``EnginePort``."""
        return await self._ask(EnginePort.add_folder, path, model)

    async def remove_folder(self, path: str) -> object:
        """Remove a folder; see ``EnginePort``."""
        return await self._ask(EnginePort.remove_folder, path)

    def folders(self) -> Sequence[KnownFolder]:
        """List the folders; see ``EnginePort``."""
        return self._ask_now(EnginePort.folders)

    def connected(self) -> AbstractContextManager[None]:
        """Nothing: whoever opened this stays connected for as long as it is open."""
        return nullcontext()

    async def page(self) -> str:
        """Return the address of the owner's page, which it serves from now on."""
        return str(await self._answer("page", {}))

    async def _ask(
        self, method: Callable[Concatenate[EnginePort, P], Awaitable[T]], *args: P.args, **named: P.kwargs
    ) -> T:
        """Call a method of the owner's engine and wait for its result."""
        do, given = _call(method, args, named)
        result: T = made(call_types(do)["return"], await self._answer(do, given))
        return result

    def _ask_now(self, method: Callable[Concatenate[EnginePort, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Call a method that never waits; blocks for as long as the owner takes."""
        do, given = _call(method, args, named)
        line = self._request(do, given)
        try:
            result: T = made(call_types(do)["return"], self._heard(line, time.monotonic() + timing.ANSWER_S)["result"])
        finally:
            line.close()
        return result

    async def _answer(self, do: str, given: dict[str, Any]) -> Any:
        """Ask and wait; leaving the wait closes the connection, which ends the work at the other side."""
        line = await anyio.to_thread.run_sync(self._request, do, given)
        try:
            return (await anyio.to_thread.run_sync(self._heard, line, None, abandon_on_cancel=True))["result"]
        finally:
            line.close()

    def _request(self, do: str, given: dict[str, Any]) -> Line:
        line = self._dialled()
        try:
            line.send({"id": 1, "do": do, "with": given})
        except OSError as error:
            line.close()
            raise _lost(error) from error
        return line

    def _dialled(self) -> Line:
        try:
            return self._attachment.dial(greeting("control"), timing.ANSWER_S)[0]
        except (NotThere, Silent, Refused) as error:
            if not (self._start and isinstance(error, NotThere)):
                raise _lost(error) from error
        found = self._attachment.attach(greeting("control"))
        if isinstance(found, Attached):
            return found.line
        raise _lost(FolderMcpError(found.reason))

    def _heard(self, line: Line, until: float | None) -> dict[str, Any]:
        try:
            document = line.receive(until)
        except (OSError, ValueError) as error:
            raise _lost(error) from error
        if "error" in document:
            raise _error(document["error"])
        return document


def _call(method: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a method's name and its arguments by name, as JSON has them."""
    bound = inspect.signature(method).bind(None, *args, **named).arguments
    return method.__name__, {name: plain(value) for name, value in bound.items() if name != "self"}


def _lost(error: Exception) -> FolderMcpError:
    return FolderMcpError(
        f"the background process cannot be reached ({error}); try again, or use --no-daemon to do it in this process"
    )


def _error(about: dict[str, str]) -> FolderMcpError:
    """Return the error that was raised in the owner."""
    kind, text = getattr(errors, str(about.get("kind")), FolderMcpError), str(about.get("text"))
    if kind is StoreError:
        return StoreError(text, str(about.get("code")))
    if isinstance(kind, type) and issubclass(kind, FolderMcpError) and kind is not errors.SlotUnavailable:
        return kind(text)
    return FolderMcpError(text)
