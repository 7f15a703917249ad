"""The page's port on loopback: bound when somebody asks for the page, served while somebody looks.

Importing this module, and holding the port, costs an owner nothing: the web server is imported when a browser
connects, and ends a while after the last one has left. The next owner takes the same port and token, so that an
open page finds it; a page asks who is there before it says its token (``/api/hello``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio

from mcp_server.page.visits import Farewell, Visits
from mcp_server.state_files import read_state, write_state

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort


NOTE = "page.json"
KEPT = 12 * 3600.0
"""Seconds after its last use for which the next owner takes up a port again."""
IDLE = 30.0
"""Seconds without a request after which the web server ends; the port stays."""
FAREWELL = 1.0
"""Seconds pages are given to hear that the owner ends."""


class PagePort:
    """The port, the token, and the web server behind it. Made closed; ``run`` serves."""

    def __init__(
        self,
        directory: str,
        engine: Callable[[], Awaitable[EnginePort]],
        looking: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Keep what is needed.

        Args:
            directory: The user's own (0700): where port and token are noted for the next owner; empty for nowhere.
            engine: Returns the engine, when there is one.
            looking: Entered for as long as a page is open and seen.
        """
        self._note = os.path.join(directory, NOTE) if directory else ""
        self._engine = engine
        self._looking = looking
        self._bound: socket.socket | None = None
        self._token = ""
        self._asked = anyio.Event()
        self._visits = Visits()
        self._parting = Farewell()

    async def address(self) -> str:
        """Return the page's address, with the token behind ``#``, where no server and no log sees it.

        Raises:
            OSError: There is no port to be had.
        """
        if self._bound is None:
            self._bind(0, secrets.token_urlsafe(32))
        self._remember()
        return f"http://127.0.0.1:{self._port}/#{self._token}"

    async def run(self) -> None:
        """Serve pages until cancelled; take up what the last owner left first."""
        try:
            self._take_up()
            await self._asked.wait()
            while True:
                assert self._bound is not None
                await anyio.wait_readable(self._bound)
                await self._serve(self._bound)
        finally:
            if self._bound is not None:
                self._bound.close()

    async def farewell(self, why: str) -> None:
        """Tell the pages that the owner ends."""
        self._parting.why = why
        self._parting.came.set()
        with anyio.move_on_after(FAREWELL):
            await self._visits.none_for(0.0)

    @property
    def _port(self) -> int:
        assert self._bound is not None
        return int(self._bound.getsockname()[1])

    def _bind(self, port: int, token: str) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would share the port with others
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", port))
            bound.listen(64)
            bound.setblocking(False)
        except OSError:
            bound.close()
            raise
        self._bound, self._token = bound, token
        self._asked.set()

    def _take_up(self) -> None:
        """Bind the port of the last owner's page; whoever has it instead of us learns nothing by that."""
        if not self._note or self._bound is not None:
            return
        left = read_state(self._note)
        try:
            if time.time() - float(left["at"]) < KEPT and len(left["token"]) >= 32:
                self._bind(int(left["port"]), str(left["token"]))
        except (OSError, ValueError, KeyError, TypeError):
            return  # nothing was left, or the port has gone to somebody else: the next page gets another, and a token

    def _remember(self) -> None:
        if not self._note or self._bound is None:
            return
        with contextlib.suppress(OSError):  # then the next owner has another address, and that is all
            write_state(self._note, {"port": self._port, "token": self._token, "at": time.time()})

    @contextlib.contextmanager
    def _open_page(self) -> Iterator[None]:
        with self._looking():
            self._remember()
            try:
                yield
            finally:
                self._remember()

    async def _serve(self, bound: socket.socket) -> None:
        """Serve until nobody has asked for anything for a while. Imports the web server."""
        from mcp_server.page.app import application  # noqa: PLC0415 - not before a browser is there

        app = application(self._engine, self._open_page, self._parting, self._visits, self._port, self._token)
        await serve_web(app, bound.dup(), lambda: self._visits.none_for(IDLE))


# The web server -----------------------------------------------------------------------------------------------------
# The web server behind the page.


async def serve_web(app: Any, listening: socket.socket, over: Callable[[], Awaitable[None]]) -> None:
    """Serve an application on a socket, which is closed then, until ``over`` returns or the task is cancelled."""
    import uvicorn  # noqa: PLC0415 - not before a browser is there

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # signals are the owner's

    async def end() -> None:
        try:
            await over()
        finally:
            server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        with anyio.CancelScope(shield=True):  # it sees ``should_exit``, and closes what it has opened
            await server.serve([listening])
        tasks.cancel_scope.cancel()
