"""The status as a resource: read it, be told when it changes, in both protocol eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from fakes_engine import FakeEngine
from mcp import Client, MCPDeprecationWarning, MCPError
from mcp.types import TextResourceContents
from trio.testing import MockClock

from indexer.errors import FolderMcpError
from indexer.status_types import Status
from mcp_server.access.access import Access
from mcp_server.access.request import RequestView
from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.application import create_server
from mcp_server.protocol.results import StatusResult
from mcp_server.protocol.status_resource import MIN_INTERVAL, URI, notify_changes

VIRTUAL = ("trio", {"clock": MockClock(autojump_threshold=0)})


async def test_the_status_is_listed_and_read_as_json(client: Client, context: ConnectionContext) -> None:
    context.notices.append("/other does not exist")
    (listed,) = (await client.list_resources()).resources
    assert (str(listed.uri), listed.mime_type, bool(listed.description)) == (URI, "application/json", True)
    (content,) = (await client.read_resource(URI)).contents
    assert isinstance(content, TextResourceContents)
    document = StatusResult.model_validate_json(content.text)
    assert document.folders[0].files.indexed == 2
    assert document.notices == ["/other does not exist"]
    called = (await client.call_tool("status", {})).structured_content
    assert set(json.loads(content.text)) == set(called)


async def test_another_address_is_refused_with_its_name(client: Client) -> None:
    with pytest.raises(MCPError, match="folder-mcp://nothing"):
        await client.read_resource("folder-mcp://nothing")


async def test_a_client_that_listens_is_told_of_a_change(context: ConnectionContext, engine: FakeEngine) -> None:
    async with connected(context, "auto") as client, client.listen(resource_subscriptions=[URI]) as events:
        await until(lambda: engine.watchers == 1)
        engine.change(state="loading", requested="m")
        with anyio.fail_after(5):
            event = await anext(aiter(events))
        assert getattr(event, "uri", None) == URI
    await until(lambda: engine.watchers == 0)


async def test_a_client_that_listens_for_something_else_costs_nothing(
    context: ConnectionContext, engine: FakeEngine
) -> None:
    async with connected(context, "auto") as client, client.listen(tools_list_changed=True):
        assert not (await client.call_tool("status", {})).is_error
        assert engine.watchers == 0


async def test_a_subscriber_is_told_until_it_unsubscribes(context: ConnectionContext, engine: FakeEngine) -> None:
    told = Told()
    async with connected(context, "legacy", told) as client:
        capability = client.server_capabilities.resources if client.server_capabilities else None
        assert capability is not None
        assert capability.subscribe
        await subscribe(client.subscribe_resource)
        await subscribe(client.subscribe_resource)  # twice is once
        await until(lambda: engine.watchers == 1)
        engine.change(state="loading", requested="m")
        await until(lambda: told.uris == [URI])
        await subscribe(client.unsubscribe_resource)
        await until(lambda: engine.watchers == 0)


async def test_the_telling_ends_with_the_connection(context: ConnectionContext, engine: FakeEngine) -> None:
    async with connected(context, "legacy") as client:
        await subscribe(client.subscribe_resource)
        await until(lambda: engine.watchers == 1)
    await until(lambda: engine.watchers == 0)


@pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["trio"])
async def test_many_changes_are_few_notices_and_the_last_is_never_lost(engine: FakeEngine) -> None:
    at: list[float] = []
    shown: list[str] = []

    async def tell() -> None:
        at.append(anyio.current_time() - began)
        shown.append(engine.slot.requested)

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(notify_changes, whole(engine), tell)
        for number in range(45):
            await anyio.sleep(0.1)
            engine.change(requested=f"m{number}")
        await anyio.sleep(3 * MIN_INTERVAL)
        group.cancel_scope.cancel()
    assert at == pytest.approx(
        [0.1, 0.1 + MIN_INTERVAL, 0.1 + 2 * MIN_INTERVAL, 0.1 + 3 * MIN_INTERVAL][: len(at)], abs=0.11
    )
    assert len(at) in (3, 4)
    assert shown[-1] == "m44"


@pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["trio"])
async def test_what_moves_by_itself_is_no_news(engine: FakeEngine) -> None:
    told: list[int] = []

    async def tell() -> None:
        told.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(notify_changes, whole(engine), tell)
        await anyio.sleep(0.1)
        engine.change(last_used_at=12.0, micro_batch_s=0.25)
        await anyio.sleep(3 * MIN_INTERVAL)
        group.cancel_scope.cancel()
    assert told == []


async def test_an_engine_that_goes_away_ends_the_news_without_an_error(engine: FakeEngine) -> None:
    async def watch() -> AsyncIterator[Status]:
        yield engine.status()
        raise FolderMcpError("the background process cannot be reached")

    engine.watch = watch  # type: ignore[method-assign]
    told: list[int] = []

    async def tell() -> None:
        told.append(1)

    with anyio.fail_after(5):
        await notify_changes(whole(engine), tell)
    assert told == []


def whole(engine: FakeEngine) -> RequestView:
    """The view of a request that may see everything."""
    return RequestView(engine, Access())


class Told:
    """Takes the notifications of a client."""

    def __init__(self) -> None:
        self.uris: list[str] = []

    async def __call__(self, message: object) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            self.uris.append(str(message.params.uri))  # type: ignore[attr-defined]


@asynccontextmanager
async def connected(context: ConnectionContext, mode: str, told: Told | None = None) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    async with Client(create_server(source), mode=mode, message_handler=told) as client:
        yield client


async def subscribe(ask: Callable[[str], Awaitable[object]]) -> None:
    with pytest.warns(MCPDeprecationWarning):
        await ask(URI)


async def until(so: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not so():
            await anyio.lowlevel.checkpoint()
