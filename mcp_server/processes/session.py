"""MCP on one connection of the owner; keeps count of the calls in flight.

Imports the MCP SDK: the owner imports this module when it has said that it is ready.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from mcp_server.engine_port import ConnectionContext
from mcp_server.processes.connections import CallsInFlight, LineStream
from mcp_server.processes.relay_calls import LISTEN
from mcp_server.protocol.application import create_server
from mcp_server.protocol.lines import TooLong
from mcp_server.protocol.transport import serve_lines

log = logging.getLogger(__name__)


def create_session_server(context: ConnectionContext) -> Server[Any]:
    """Build the one server object that serves every connection.

    Args:
        context: For connections that come by HTTP, not by ``serve_session``.
    """

    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    return create_server(source)._lowlevel_server


async def serve_session(server: Server[Any], connection: LineStream, context: object, calls: CallsInFlight) -> None:
    """Serve a client until it leaves.

    Args:
        server: The one server object.
        connection: Its connection, after the handshake.
        context: Of the connection; what tools work with.
        calls: Kept up to date.
    """

    def received(message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            if message.method != LISTEN:  # it stays open for as long as the client likes: not a call in flight
                calls.started(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            calls.finished((message.params or {}).get("requestId"))

    def sent(message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            calls.finished(message.id)

    lines = _accepted(connection, calls)
    await serve_lines(server, lines, connection.send_line, context, received=received, sent=sent)


async def _accepted(connection: LineStream, calls: CallsInFlight) -> AsyncIterator[bytes | TooLong]:
    while (line := await connection.receive_bounded()) is not None:
        if calls.draining:
            await anyio.sleep_forever()  # not accepted: the relay asks the next owner
        yield line
