"""The owner's engine, from another process: every method is a request over a connection of its own."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio

from indexer import errors
from indexer.errors import FolderMcpError, StoreError
from indexer.folders.registry import KnownFolder
from indexer.history import History
from indexer.status_types import IndexReport, Status
from indexer.types import Answer, Query, Reading
from mcp_server.engine_port import EnginePort, from_json, method_types, to_json
from mcp_server.processes import timing
from mcp_server.processes.attach import Attached, NoOwner, OwnerConnector, OwnerUnresponsive, connector_to
from mcp_server.processes.handshake import (
    HandshakeRefused,
    HandshakeTimeout,
    LineSocket,
    OwnerNotFound,
    handshake_request,
)
from mcp_server.processes.owner_lock import Location

if TYPE_CHECKING:
    from indexer.config import Config

P = ParamSpec("P")
T = TypeVar("T")


class RemoteEngine:
    """Implements ``EnginePort``. For processes that have nothing else to do: ``status`` and ``folders`` block."""

    def __init__(self, connector: OwnerConnector, *, start: bool) -> None:
        """Keep what is needed.

        Args:
            connector: Connects to the owner.
            start: Start another owner when this one ends.
        """
        self._connector = connector
        self._start = start

    async def search(self, query: Query) -> Answer:
        """Search; see ``EnginePort``."""
        return await self._call_owner(EnginePort.search, query)

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read; see ``EnginePort``."""
        return await self._call_owner(EnginePort.read, path, locator, max_chars=max_chars)

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        """Show everything; see ``EnginePort``."""
        return self._call_owner_now(EnginePort.status, verbose=verbose, parts=parts)

    async def watch(self) -> AsyncIterator[Status]:
        """Show everything, again after every change; see ``EnginePort``."""
        connection = await anyio.to_thread.run_sync(self._request, "watch", {})
        try:
            while True:
                document = await anyio.to_thread.run_sync(_receive, connection, None, abandon_on_cancel=True)
                yield from_json(Status, document["event"])
        finally:
            connection.close()

    async def history(self, after: float = 0.0) -> History:
        """Return what happened; see ``EnginePort``."""
        return await self._call_owner(EnginePort.history, after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index; see ``EnginePort``."""
        return await self._call_owner(EnginePort.index, folders)

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Add a folder; see ``EnginePort``."""
        return await self._call_owner(EnginePort.add_folder, path, model)

    async def remove_folder(self, path: str) -> object:
        """Remove a folder; see ``EnginePort``."""
        return await self._call_owner(EnginePort.remove_folder, path)

    def folders(self) -> Sequence[KnownFolder]:
        """List the folders; see ``EnginePort``."""
        return self._call_owner_now(EnginePort.folders)

    def connected(self) -> AbstractContextManager[None]:
        """Do nothing: ``connected_to_owner`` holds a connection for as long as the engine is open."""
        return nullcontext()

    async def page(self) -> str:
        """Return the address of the owner's page, which it serves from now on."""
        return str(await self._result("page", {}))

    async def _call_owner(
        self, method: Callable[Concatenate[EnginePort, P], Awaitable[T]], *args: P.args, **named: P.kwargs
    ) -> T:
        """Call a method of the owner's engine and wait for its result."""
        do, given = _call(method, args, named)
        result: T = from_json(method_types(do)["return"], await self._result(do, given))
        return result

    def _call_owner_now(self, method: Callable[Concatenate[EnginePort, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Call a method that never waits; blocks for as long as the owner takes."""
        do, given = _call(method, args, named)
        connection = self._request(do, given)
        try:
            result: T = from_json(
                method_types(do)["return"], _receive(connection, time.monotonic() + timing.ANSWER_S)["result"]
            )
        finally:
            connection.close()
        return result

    async def _result(self, do: str, given: dict[str, Any]) -> Any:
        """Request and wait; cancelling the wait closes the connection, which ends the work in the owner."""
        connection = await anyio.to_thread.run_sync(self._request, do, given)
        try:
            return (await anyio.to_thread.run_sync(_receive, connection, None, abandon_on_cancel=True))["result"]
        finally:
            connection.close()

    def _request(self, do: str, given: dict[str, Any]) -> LineSocket:
        connection = self._dial()
        try:
            connection.send({"id": 1, "do": do, "with": given})
        except OSError as error:
            connection.close()
            raise _unreachable(error) from error
        return connection

    def _dial(self) -> LineSocket:
        try:
            return self._connector.dial(handshake_request("control"), timing.ANSWER_S)[0]
        except (OwnerNotFound, HandshakeTimeout, HandshakeRefused) as error:
            if not (self._start and isinstance(error, OwnerNotFound)):
                raise _unreachable(error) from error
        found = self._connector.attach(handshake_request("control"))
        if isinstance(found, Attached):
            return found.connection
        raise _unreachable(FolderMcpError(found.reason))


def _receive(connection: LineSocket, deadline: float | None) -> dict[str, Any]:
    try:
        document = connection.receive(deadline)
    except (OSError, ValueError) as error:
        raise _unreachable(error) from error
    if "error" in document:
        raise _error(document["error"])
    return document


def _call(method: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a method's name and its arguments by name, as JSON has them."""
    bound = inspect.signature(method).bind(None, *args, **named).arguments
    return method.__name__, {name: to_json(value) for name, value in bound.items() if name != "self"}


def _unreachable(error: Exception) -> FolderMcpError:
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


@asynccontextmanager
async def connected_to_owner(
    config: Config, *, start: bool
) -> AsyncIterator[RemoteEngine | NoOwner | OwnerUnresponsive]:
    """Yield the owner's engine, connected so that the owner stays; or why there is none to use.

    Args:
        config: Its data directory has the owner.
        start: Start an owner if there is none.
    """
    try:
        connector = connector_for(config)
    except OSError as error:
        yield NoOwner(str(error))
        return
    found = await anyio.to_thread.run_sync(partial(connector.attach, handshake_request("presence"), start=start))
    if not isinstance(found, Attached):
        yield found
        return
    try:
        yield RemoteEngine(connector, start=start)
    finally:
        found.connection.close()


def engine_of_running_owner(config: Config) -> RemoteEngine | None:
    """Return the engine of a running owner, None if there is none or it does not answer."""
    try:
        connector = connector_for(config)
        connector.dial(handshake_request("check"))[0].close()
    except HandshakeTimeout as error:
        error.connection.close()
        return None
    except (OSError, OwnerNotFound, HandshakeRefused):
        return None
    return RemoteEngine(connector, start=False)


def connector_for(config: Config) -> OwnerConnector:
    """Return what connects to the owner of a configuration's data directory.

    Raises:
        OSError: There is no private directory for its files.
    """
    location = Location(str(config.config_file or ""), str(config.data_dir), "")
    environ = os.environ  # environment: an owner that we start gets the user's part of it
    return connector_to(location, environ)
