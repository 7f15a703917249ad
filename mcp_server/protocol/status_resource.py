"""The status as a resource, ``folder-mcp://status``: clients read it, and are told when it has changed.

Told in both eras: by ``resources/subscribe`` up to 2025-11-25, by ``subscriptions/listen`` from 2026-07-28.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import anyio
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resources import FunctionResource, Resource
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ServerEvent
from mcp.types import (
    EmptyResult,
    ReadResourceRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from indexer.errors import FolderMcpError
from indexer.status_types import Status
from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol import results
from mcp_server.protocol.results import StatusResult

log = logging.getLogger(__name__)

URI = "folder-mcp://status"
GAP = 2.0
"""Seconds between two notices of one client at least: during indexing something changes all the time."""
DESCRIPTION = "What is indexed, how far indexing is, what failed and why, what the model does; as the tool status."

Request = ServerRequestContext[Any, Any]


class StatusResource:
    """The resource of one server object.

    Attributes:
        resource: What to register.
        bus: Carries the changes that others publish to listening clients.
    """

    def __init__(self) -> None:
        self._asking: ContextVar[ConnectionContext] = ContextVar(
            "asking"
        )  # the SDK reads a resource without telling who asks
        self.bus = InMemorySubscriptionBus()
        self.resource: Resource = FunctionResource.from_function(
            self._read, URI, name="status", title="Index status", description=DESCRIPTION, mime_type="application/json"
        )

    def serve(self, server: MCPServer[ConnectionContext]) -> None:
        """Answer the requests for resources with what the SDK's own class lacks.

        It does not tell a resource who reads it, and it has the requests to be told of changes for one era only.
        """
        low = server._lowlevel_server
        entry = low.get_request_handler("resources/read")
        assert entry is not None

        async def read(ctx: Request, params: ReadResourceRequestParams) -> HandlerResult:
            token = self._asking.set(ctx.lifespan_context)
            try:
                return await entry.handler(ctx, params)
            finally:
                self._asking.reset(token)

        low.add_request_handler("resources/read", ReadResourceRequestParams, read)
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, _subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _unsubscribe)
        low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)

    async def _read(self) -> str:
        context = self._asking.get()
        found = replace(context.engine.status(), notices=tuple(context.notices))
        return StatusResult.of(results.fit_status(found)).model_dump_json()

    async def _listen(self, ctx: Request, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        stream = _Stream(self.bus)
        serve = ListenHandler(stream)
        if URI not in (params.notifications.resource_subscriptions or ()):
            return await serve(ctx, params)
        async with anyio.create_task_group() as group:
            group.start_soon(tell_changes, ctx.lifespan_context, lambda: stream.publish(ResourceUpdated(uri=URI)))
            result = await serve(ctx, params)
            group.cancel_scope.cancel()
        return result


class _Stream:
    """What one listening client hears: its own notices, and what is published to all."""

    def __init__(self, everybody: InMemorySubscriptionBus) -> None:
        self._buses = (InMemorySubscriptionBus(), everybody)

    async def publish(self, event: ServerEvent) -> None:
        """Tell this client alone."""
        await self._buses[0].publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Hear both."""
        ends = [bus.subscribe(listener) for bus in self._buses]

        def unsubscribe() -> None:
            for end in ends:
                end()

        return unsubscribe


async def tell_changes(context: ConnectionContext, tell: Callable[[], Awaitable[None]], gap: float = GAP) -> None:
    """Call ``tell`` after every change worth it, at most once in ``gap`` seconds; the last change is never lost."""
    last: object = None
    try:
        async for status in context.engine.watch():
            now = worth_telling(status, context)
            if last is not None and now != last:
                await tell()
                last = now
                await anyio.sleep(gap)
            last = now
    except FolderMcpError as error:  # the engine went away; whoever reads the status is told
        log.info("no more news of the status: %s", error)


def worth_telling(status: Status, context: ConnectionContext) -> object:
    """Return the part of a status whose change is news: not times, rates and sizes, which move by themselves."""
    slot, owner, index = status.slot, status.owner, status.index
    folders = [
        (one.path, one.model, one.state, one.detail, one.files, round(one.coverage, 2), one.reasons, one.advice)
        for one in status.folders
    ]
    return (
        (owner.pid, owner.state, owner.detail, owner.clients),
        status.services,
        (slot.state, slot.model, slot.requested, slot.stage, round(slot.progress, 1), slot.last_error),
        (index.last_error, index.state, index.notices, index.pool and (index.pool.state, index.pool.detail)),
        folders,
        status.models,
        tuple(context.notices),
    )


async def _subscribe(ctx: Request, params: SubscribeRequestParams) -> EmptyResult:
    """Begin to tell this connection. Any address may be subscribed to; only ours ever changes."""
    connection = ctx.session._connection  # the SDK has no other way to what lives as long as a connection
    if str(params.uri) == URI and URI not in connection.state:
        # Not in a task group: the task outlives the request, and ends with the connection.
        session = ctx.session
        telling = asyncio.create_task(
            tell_changes(ctx.lifespan_context, lambda: session.send_resource_updated(URI)), name="status news"
        )
        connection.state[URI] = telling
        connection.exit_stack.push_async_callback(_end, telling)
    return EmptyResult()


async def _unsubscribe(ctx: Request, params: UnsubscribeRequestParams) -> EmptyResult:
    telling = ctx.session._connection.state.pop(str(params.uri), None)
    if telling is not None:
        await _end(telling)
    return EmptyResult()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
