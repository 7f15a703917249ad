"""The status as a resource, ``folder-mcp://status``: clients read it, and are notified when it has changed.

Notified in both eras: by ``resources/subscribe`` up to 2025-11-25, by ``subscriptions/listen`` from 2026-07-28.
"""

from __future__ import annotations

import asyncio
import logging
import math
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
from indexer.status_types import PART, FolderStatus, Status
from mcp_server.access.request import RequestView, asker_of, view_now, view_of
from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol import results
from mcp_server.protocol.results import StatusResult

log = logging.getLogger(__name__)

URI = "folder-mcp://status"
MIN_INTERVAL = 2.0
"""Minimum seconds between two notifications of one client: during indexing something changes all the time."""
DESCRIPTION = "What is indexed, how far indexing is, what failed and why, what the model does; as the tool status."

Request = ServerRequestContext[Any, Any]


class StatusResource:
    """The resource of one server object.

    Attributes:
        resource: What to register.
        bus: Carries events that are published to all listening clients.
    """

    def __init__(self) -> None:
        # The SDK does not tell a resource which connection reads it.
        self._view: ContextVar[RequestView] = ContextVar("view")
        self.bus = InMemorySubscriptionBus()
        self.resource: Resource = FunctionResource.from_function(
            self._read, URI, name="status", title="Index status", description=DESCRIPTION, mime_type="application/json"
        )

    def serve(self, server: MCPServer[ConnectionContext]) -> None:
        """Add the request handlers that the SDK's own class lacks.

        It does not tell a resource which connection reads it, and it has subscriptions for one era only.
        """
        low = server._lowlevel_server
        entry = low.get_request_handler("resources/read")
        assert entry is not None

        async def read(ctx: Request, params: ReadResourceRequestParams) -> HandlerResult:
            token = self._view.set(view_now(ctx))
            try:
                async with ctx.lifespan_context.record.answer(asker_of(ctx), "status resource"):
                    return await entry.handler(ctx, params)
            finally:
                self._view.reset(token)

        low.add_request_handler("resources/read", ReadResourceRequestParams, read)
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, _subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _unsubscribe)
        low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)

    async def _read(self) -> str:
        view = self._view.get()
        found = replace(view.engine.status(), notices=view.notices)
        return StatusResult.of(results.fit_status(found)).model_dump_json()

    async def _listen(self, ctx: Request, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        bus = _ClientBus(self.bus)
        serve = ListenHandler(bus)
        if URI not in (params.notifications.resource_subscriptions or ()):
            return await serve(ctx, params)
        async with anyio.create_task_group() as group:
            group.start_soon(_follow, ctx, lambda: bus.publish(ResourceUpdated(uri=URI)))
            result = await serve(ctx, params)
            group.cancel_scope.cancel()
        return result


class _ClientBus:
    """The events of one listening client: its own, and those that are published to all."""

    def __init__(self, shared: InMemorySubscriptionBus) -> None:
        self._buses = (InMemorySubscriptionBus(), shared)

    async def publish(self, event: ServerEvent) -> None:
        """Publish to this client alone."""
        await self._buses[0].publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Subscribe to both."""
        unsubscribes = [bus.subscribe(listener) for bus in self._buses]

        def unsubscribe() -> None:
            for each in unsubscribes:
                each()

        return unsubscribe


async def _follow(ctx: Request, notify: Callable[[], Awaitable[None]]) -> None:
    """Call ``notify`` after changes of what a request may see, as soon as the limits of its connection are known."""
    await notify_changes(await view_of(ctx, math.inf), notify)


async def notify_changes(
    view: RequestView, notify: Callable[[], Awaitable[None]], interval: float = MIN_INTERVAL
) -> None:
    """Call ``notify`` after relevant changes, at most once in ``interval`` seconds; the last change is never lost."""
    last: object = None
    try:
        async for status in view.engine.watch():
            now = relevant_state(status, view)
            if last is not None and now != last:
                await notify()
                last = now
                await anyio.sleep(interval)
            last = now
    except FolderMcpError as error:  # the engine has ended; a client that reads the status gets the reason
        log.info("no more news of the status: %s", error)


def relevant_state(status: Status, view: RequestView) -> object:
    """Return the part of a status whose changes are notified: no times, rates and sizes, which change all the time.

    For a request that may not see everything nothing that work on other folders changes: not the model, and not how
    far a folder is of which it sees a part.
    """
    slot, owner, index = status.slot, status.owner, status.index
    if view.is_fenced:
        own = [_own_state(one) for one in status.folders]
        return owner.pid, owner.state, index.state, own, status.models, view.notices
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
        view.notices,
    )


def _own_state(folder: FolderStatus) -> object:
    counted = (folder.path, folder.model, folder.files, folder.chunks, folder.reasons)
    if folder.source == PART:
        return counted
    return (*counted, folder.state, round(folder.coverage, 2), folder.advice)


async def _subscribe(ctx: Request, params: SubscribeRequestParams) -> EmptyResult:
    """Begin to notify this connection. Any URI may be subscribed to; only ours ever changes."""
    connection = ctx.session._connection  # private, but the only object that lives as long as the connection
    if str(params.uri) == URI and URI not in connection.state:
        # Not in a task group: the task outlives the request, and ends with the connection.
        session = ctx.session
        task = asyncio.create_task(_follow(ctx, lambda: session.send_resource_updated(URI)), name="status news")
        connection.state[URI] = task
        connection.exit_stack.push_async_callback(_end, task)
    return EmptyResult()


async def _unsubscribe(ctx: Request, params: UnsubscribeRequestParams) -> EmptyResult:
    task = ctx.session._connection.state.pop(str(params.uri), None)
    if task is not None:
        await _end(task)
    return EmptyResult()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
