"""MCP on one connection of the owner, and what of it is still unanswered."""

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
from mcp_server.processes.connections import CallsInFlight, Visitor
from mcp_server.processes.relay_calls import LISTEN
from mcp_server.protocol.application import create_server
from mcp_server.protocol.transport import Incoming, Message, Outgoing, converse

log = logging.getLogger(__name__)


def server_of(context: ConnectionContext) -> Server[Any]:
    """Build the one server object that serves every connection.

    Args:
        context: What connections work with that are not served by ``serve_session``.
    """

    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    return create_server(source)._lowlevel_server


async def serve_session(server: Server[Any], visitor: Visitor, context: object, traffic: CallsInFlight) -> None:
    """Serve a client until it leaves.

    Args:
        server: The one server object.
        visitor: Its connection, hellos exchanged.
        context: What tools work with.
        traffic: Kept up to date.
    """
    to_server, incoming = anyio.create_memory_object_stream[Message](0)
    outgoing, to_client = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as group:
        group.start_soon(_read, visitor, to_server, traffic)
        group.start_soon(_write, visitor, to_client, traffic)
        await converse(server, incoming, outgoing, context)
        group.cancel_scope.cancel()


async def _read(visitor: Visitor, to_server: Outgoing, traffic: CallsInFlight) -> None:
    async with to_server:
        while (line := await visitor.line()) is not None:
            if traffic.draining:
                await anyio.sleep_forever()  # not taken: whoever comes after us is asked again
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValidationError as error:
                await to_server.send(error)
                continue
            if isinstance(message, JSONRPCRequest):
                if message.method != LISTEN:  # it stays open for as long as the client likes: nothing to wait for
                    traffic.asked(message.id)
            elif getattr(message, "method", "") == "notifications/cancelled":
                traffic.answered((getattr(message, "params", None) or {}).get("requestId"))
            await to_server.send(SessionMessage(message))


async def _write(visitor: Visitor, to_client: Incoming, traffic: CallsInFlight) -> None:
    async with to_client:
        async for item in to_client:
            message = item.message
            await visitor.send(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
            if isinstance(message, JSONRPCResponse | JSONRPCError):
                traffic.answered(message.id)
