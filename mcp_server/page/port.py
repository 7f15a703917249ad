"""The page's port on loopback: bound when the page is first asked for, served while a browser is connected.

This module and the bound port cost an owner nothing: the web server is imported when a browser connects, and ends a
while after the last request. The next owner uses the same port and token, so that an open page finds it; a page makes
the server prove that it knows the token before it sends it (``/api/hello``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from mcp_server.page.open_requests import OpenRequests, ShutdownNotice
from mcp_server.page.unproven import RETRY_S
from mcp_server.state_files import read_state, write_state

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort

log = logging.getLogger(__name__)


STATE_FILE = "page.json"
REUSE_LIMIT = 12 * 3600.0
"""Seconds after its last use for which the next owner uses a port again."""
IDLE = 30.0
"""Seconds without a request after which the web server ends; the port stays."""
SHUTDOWN_LIMIT = 1.0
"""Seconds in which pages are told that the owner ends."""


class PageServer:
    """The port, the token, and the web server behind it. Created closed; ``run`` serves."""

    def __init__(
        self,
        directory: str,
        engine: Callable[[], Awaitable[EnginePort]],
        viewed: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Keep what is needed.

        Args:
            directory: Private (0700), gets the port and the token for the next owner; empty to save neither.
            engine: Returns the engine, when there is one.
            viewed: Entered for as long as a page is open and visible.
        """
        self._state_file = os.path.join(directory, STATE_FILE) if directory else ""
        self._engine = engine
        self._viewed = viewed
        self._bound: socket.socket | None = None
        self._token = ""
        self._address_bound = anyio.Event()
        self._open_requests = OpenRequests()
        self._shutdown = ShutdownNotice()

    async def address(self) -> str:
        """Return the page's address, with the token behind ``#``, where no server and no log sees it.

        Raises:
            OSError: No port can be bound.
        """
        if self._bound is None:
            self._bind(0, secrets.token_urlsafe(32))
        self._save()
        return f"http://127.0.0.1:{self._port}/#{self._token}"

    async def run(self) -> None:
        """Serve pages until cancelled, on the last owner's port if it left one."""
        try:
            self._restore()
            await self._address_bound.wait()
            while True:
                assert self._bound is not None
                await anyio.wait_readable(self._bound)
                try:
                    await self._serve(self._bound)
                except OSError as error:  # no descriptors, as a rule: a page must not end the owner
                    log.warning("the page cannot be served for now: %s", error)
                    await anyio.sleep(RETRY_S)
        finally:
            if self._bound is not None:
                self._bound.close()

    async def shut_down(self, why: str) -> None:
        """Tell the pages that the owner ends."""
        self._shutdown.why = why
        self._shutdown.event.set()
        with anyio.move_on_after(SHUTDOWN_LIMIT):
            await self._open_requests.wait_idle(0.0)

    @property
    def _port(self) -> int:
        assert self._bound is not None
        return int(self._bound.getsockname()[1])

    def _bind(self, port: int, token: str) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere the option would let other programs share the port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", port))
            bound.listen(64)
            bound.setblocking(False)
        except OSError:
            bound.close()
            raise
        self._bound, self._token = bound, token
        self._address_bound.set()

    def _restore(self) -> None:
        """Bind the port of the last owner's page; a program that has taken it meanwhile learns no secret."""
        if not self._state_file or self._bound is not None:
            return
        state = read_state(self._state_file)
        try:
            if time.time() - float(state["at"]) < REUSE_LIMIT and len(state["token"]) >= 32:
                self._bind(int(state["port"]), str(state["token"]))
        except (OSError, ValueError, KeyError, TypeError):
            return  # no state, or another program has the port: the next page gets a new port and token

    def _save(self) -> None:
        if not self._state_file or self._bound is None:
            return
        with contextlib.suppress(OSError):  # then only the next owner's address is different
            write_state(self._state_file, {"port": self._port, "token": self._token, "at": time.time()})

    @contextlib.contextmanager
    def _open_page(self) -> Iterator[None]:
        with self._viewed():
            self._save()
            try:
                yield
            finally:
                self._save()

    async def _serve(self, bound: socket.socket) -> None:
        """Serve until there was no request for ``IDLE`` seconds. Imports the web server."""
        # An owner imports the MCP SDK in a thread before it has an engine. Importing it in two threads at once would
        # leave one of them with half of a module.
        await self._engine()
        application = await anyio.to_thread.run_sync(_import_application)
        app = application(self._engine, self._open_page, self._shutdown, self._open_requests, self._port, self._token)
        await serve_web(app, bound.dup(), lambda: self._open_requests.wait_idle(IDLE))


def _import_application() -> Callable[..., Any]:
    from mcp_server.page.app import application  # noqa: PLC0415 - not before a browser is there

    return application


async def serve_web(app: Any, listening: socket.socket, ended: Callable[[], Awaitable[None]]) -> None:
    """Serve an application on a socket until ``ended`` returns or the task is cancelled; closes the socket."""
    import uvicorn  # noqa: PLC0415 - not before a browser is there

    from mcp_server.page.web_server import WebServer  # noqa: PLC0415

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = WebServer(config)

    async def end() -> None:
        try:
            await ended()
        finally:
            server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        with anyio.CancelScope(shield=True):  # uvicorn sees ``should_exit``, and closes its connections
            await server.serve([listening])
        tasks.cancel_scope.cancel()
