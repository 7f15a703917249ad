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
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCRequest, JSONRPCResponse, jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_server.engine_port import ConnectionContext
from mcp_server.processes.connections import CallsInFlight, LineStream
from mcp_server.processes.relay_calls import LISTEN
from mcp_server.protocol.application import create_server
from mcp_server.protocol.transport import Incoming, Message, Outgoing, serve_connection

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
    to_server, incoming = anyio.create_memory_object_stream[Message](0)
    outgoing, to_client = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as group:
        group.start_soon(_read, connection, to_server, calls)
        group.start_soon(_write, connection, to_client, calls)
        await serve_connection(server, incoming, outgoing, context)
        group.cancel_scope.cancel()


async def _read(connection: LineStream, to_server: Outgoing, calls: CallsInFlight) -> None:
    async with to_server:
        while (line := await connection.receive_line()) is not None:
            if calls.draining:
                await anyio.sleep_forever()  # not accepted: the relay asks the next owner
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValidationError as error:
                await to_server.send(error)
                continue
            if isinstance(message, JSONRPCRequest):
                if message.method != LISTEN:  # it stays open for as long as the client likes: not a call in flight
                    calls.started(message.id)
            elif getattr(message, "method", "") == "notifications/cancelled":
                calls.finished((getattr(message, "params", None) or {}).get("requestId"))
            await to_server.send(SessionMessage(message))


async def _write(connection: LineStream, to_client: Incoming, calls: CallsInFlight) -> None:
    async with to_client:
        async for item in to_client:
            message = item.message
            await connection.send_line(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
            if isinstance(message, JSONRPCResponse | JSONRPCError):
                calls.finished(message.id)
