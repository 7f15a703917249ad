"""The web server of the page and of MCP over HTTP: uvicorn, whose connections must show the token or make room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from mcp_server.page.unproven import (
    OUT_OF_DESCRIPTORS,
    PROOF_S,
    PROVEN,
    RETRY_S,
    DescriptorReserve,
    UnprovenConnections,
)

log = logging.getLogger(__name__)


class WebServer(uvicorn.Server):
    """Accepts connections itself: few that have not shown the token, and none in a loop that has no descriptors."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # signals are the owner's

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept on ``sockets``, which are bound and listen."""
        if sys.platform == "win32" or sockets is None:  # its event loop cannot wait for a socket to become readable
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the web application did not start; see the log")
        self.servers = [Listener(each, self._protocol, self.config.ssl) for each in sockets]  # type: ignore[misc]
        self.started = True

    def _protocol(self, connection: _Connection) -> asyncio.Protocol:
        """Make the protocol of one connection, as uvicorn makes it."""
        state = {**self.lifespan.state, PROVEN: connection.proven}
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=state, _loop=asyncio.get_running_loop()
        )
        lost, app = made.connection_lost, made.app  # type: ignore[attr-defined]

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            connection.asked()
            await app(scope, receive, send)

        def connection_lost(error: Exception | None) -> None:
            connection.ended()
            lost(error)

        made.app = answer  # type: ignore[attr-defined]
        made.connection_lost = connection_lost  # type: ignore[method-assign,assignment]
        return made


class Listener:
    """Accepts connections on one socket until closed; what uvicorn calls a server.

    A connection is one task until its TLS handshake is over, then a transport. It has ``PROOF_S`` seconds for each
    request as long as none has shown the token, and gives way to a newer one when there are too many without.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[_Connection], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        """Begin to accept.

        Args:
            listening: The socket; is closed by whoever made it, after ``close``.
            protocol: Makes the protocol of a connection.
            tls: For encrypted connections.
        """
        listening.setblocking(False)
        self.sockets = (listening,)
        self._listening = listening
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._unproven = UnprovenConnections()
        self._reserve = DescriptorReserve()
        self._retry: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._resume()

    def close(self) -> None:
        """Accept no more; connections stay open."""
        self._loop.remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()
        for task in self._connecting:
            task.cancel()
        self._reserve.release()

    async def wait_closed(self) -> None:
        """Return at once: nothing is left to wait for."""

    def _resume(self) -> None:
        self._reserve.fill()
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Accept one connection; the event loop comes back for the next, so that others get their turn."""
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                # The connection stays in the queue, and the socket readable: not to be asked again at once.
                log.warning("a connection cannot be accepted for now: %s", error)
                self._loop.remove_reader(self._listening)
                self._reserve.release()
                self._unproven.close_oldest()
                self._retry = self._loop.call_later(RETRY_S, self._resume)
            return  # else it was taken back by the client, or there was none
        connection = _Connection(self._unproven)
        connection.task = self._loop.create_task(self._connect(accepted, connection))
        self._connecting.add(connection.task)
        connection.task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket, connection: _Connection) -> None:
        tls: dict[str, Any] = {"ssl": self._tls, "ssl_handshake_timeout": PROOF_S} if self._tls is not None else {}
        try:
            connection.transport, _ = await self._loop.connect_accepted_socket(
                lambda: self._protocol(connection), accepted, **tls
            )
        except (OSError, asyncio.CancelledError):  # no TLS, or it gave way to a newer one
            connection.ended()
            accepted.close()


class _Connection:
    """One connection, until it has shown the token or ended.

    Attributes:
        task: Connects it, which takes as long as its TLS handshake.
        transport: Set when that is over.
    """

    def __init__(self, unproven: UnprovenConnections) -> None:
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.WriteTransport | None = None
        self._unproven = unproven
        self._done = False
        self._timer = asyncio.get_running_loop().call_later(PROOF_S, self._expire)
        unproven.add(self, self._close)

    def asked(self) -> None:
        """Record that it has sent the head of a request: it has the time for another one."""
        if not self._done:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(PROOF_S, self._expire)

    def proven(self) -> None:
        """Record that it has shown the token."""
        self._done = True
        self._timer.cancel()
        self._unproven.discard(self)

    ended = proven

    def _expire(self) -> None:
        self._unproven.discard(self)
        self._close()

    def _close(self) -> None:
        self._done = True
        self._timer.cancel()
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()
