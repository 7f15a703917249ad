"""The owner's engine, from another process: every method is a request over a connection of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio

from indexer import errors
from indexer.answer import Answer, Query, Reading
from indexer.errors import FolderMcpError, StoreError
from indexer.history import History
from indexer.known_folders import KnownFolder
from indexer.status import IndexReport, Status
from mcp_server import timing
from mcp_server.processes.attach import Attached
from mcp_server.processes.hello import Line, NotThere, Refused, Silent, greeting
from mcp_server.processes.plain import made, plain

if TYPE_CHECKING:
    from mcp_server.processes.attach import Attachment


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
        found: Answer = await self._ask(Answer, "search", query=plain(query))
        return found

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read; see ``EnginePort``."""
        found: Reading = await self._ask(Reading, "read", path=path, locator=locator, max_chars=max_chars)
        return found

    def status(self, *, verbose: bool = False) -> Status:
        """Show everything; see ``EnginePort``."""
        found: Status = self._ask_now(Status, "status", verbose=verbose)
        return found

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
        found: History = await self._ask(History, "history", after=after)
        return found

    async def page(self) -> str:
        """Return the address of the owner's page, which it serves from now on."""
        return str(await self._ask(str, "page"))

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index; see ``EnginePort``."""
        found: IndexReport = await self._ask(IndexReport, "index", folders=None if folders is None else list(folders))
        return found

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Add a folder; see ``EnginePort``."""
        found: KnownFolder = await self._ask(KnownFolder, "add_folder", path=path, model=model)
        return found

    async def remove_folder(self, path: str) -> object:
        """Remove a folder; see ``EnginePort``."""
        return await self._ask(object, "remove_folder", path=path)

    def folders(self) -> Sequence[KnownFolder]:
        """List the folders; see ``EnginePort``."""
        found: Sequence[KnownFolder] = self._ask_now(tuple[KnownFolder, ...], "folders")
        return found

    def connected(self) -> AbstractContextManager[None]:
        """Nothing: whoever opened this stays connected for as long as it is open."""
        return nullcontext()

    async def _ask(self, kind: Any, do: str, **given: Any) -> Any:
        """Ask and wait; leaving the wait closes the connection, which ends the work at the other side."""
        line = await anyio.to_thread.run_sync(self._request, do, given)
        try:
            document = await anyio.to_thread.run_sync(self._heard, line, None, abandon_on_cancel=True)
        finally:
            line.close()
        return made(kind, document["result"])

    def _ask_now(self, kind: Any, do: str, **given: Any) -> Any:
        line = self._request(do, given)
        try:
            return made(kind, self._heard(line, time.monotonic() + timing.ANSWER_S)["result"])
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
