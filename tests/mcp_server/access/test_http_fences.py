"""Two users of one server over HTTP, at the same time: each request is decided by its own token."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from engines import engine_over
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from two_owners import Matrix, Person, reads, searches, try_protocol, without, write_both

from mcp_server.access.access import Access
from mcp_server.engine_port import ConnectionContext, EnginePort
from mcp_server.processes.session import create_session_server

pytestmark = pytest.mark.slow


class GrantedToken(AccessToken):
    access: Access


@asynccontextmanager
async def serving(engine: EnginePort, tokens: Mapping[str, Access]) -> AsyncIterator[str]:
    """Serve an engine over HTTP to these tokens; yields the address. All clients share one context, as in an owner."""
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    inner = create_session_server(ConnectionContext(engine)).streamable_http_app(transport_security=security)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
            scope["user"] = AuthenticatedUser(GrantedToken(token=name, client_id=name, scopes=[], access=tokens[name]))
        await inner(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [bound])
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
            server.should_exit = True


def as_user(name: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {name}"}, timeout=60)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_two_users_at_the_same_time_see_nothing_of_each_other(tmp_path: Path, mode: Any) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        tokens = {name: Access(name, folders=(str(who.root),)) for name, who in (("anna", one), ("bert", two))}
        async with serving(engine, tokens) as url:
            matrices: list[Matrix] = []

            async def attack(name: str, own: Person, other: Person) -> None:
                async with as_user(name) as web:
                    transport: Any = streamable_http_client(url, http_client=web)
                    async with Client(transport, mode=mode) as client:
                        matrix = Matrix(client, other.never_asked, (str(own.root),), [])
                        matrices.append(matrix)
                        schema = next(t.input_schema for t in (await client.list_tools()).tools if t.name == "search")
                        for arguments in [*searches(own.root, other, schema)][::5]:
                            await matrix.call("search", **arguments)
                        for path, unknown in [*reads(own.root, other)][::2]:
                            texts = [without(await matrix.call("read", path=p), p) for p in (path, unknown)]
                            assert texts[0] == texts[1] != ""
                        await matrix.call("status", verbose=True)
                        await try_protocol(matrix, other)

            async with anyio.create_task_group() as group:
                group.start_soon(attack, "anna", one, two)
                group.start_soon(attack, "bert", two, one)
    assert [matrix.leaks for matrix in matrices] == [[], []]
    assert sum(matrix.tries for matrix in matrices) >= 300
    assert all(matrix.hits > 50 for matrix in matrices)


async def test_a_session_belongs_to_the_user_who_opened_it(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        tokens = {name: Access(name, folders=(str(who.root),)) for name, who in (("anna", one), ("bert", two))}
        async with serving(engine, tokens) as url, as_user("anna") as anna, as_user("bert") as bert:
            asked = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
            info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            opened = await anna.post(url, headers=asked, json=message("initialize", 1, **info))
            session = {**asked, "mcp-session-id": opened.headers["mcp-session-id"]}
            await anna.post(url, headers=session, json=message("notifications/initialized", None))
            call = message("tools/call", 2, name="status", arguments={})
            assert str(one.root) in (await anna.post(url, headers=session, json=call)).text
            foreign = await bert.post(url, headers=session, json=call)
            unknown = await bert.post(url, headers={**session, "mcp-session-id": "0" * 32}, json=call)
            assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text)
            assert foreign.status_code == 404
            assert (await bert.delete(url, headers=session)).status_code == 404
            assert (await bert.get(url, headers=session)).status_code == 404
            assert str(one.root) in (await anna.post(url, headers=session, json=call)).text


async def test_what_a_user_may_see_is_decided_anew_for_each_request_of_a_session(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        tokens = {"anna": Access("anna", folders=(str(one.root), str(two.root)))}
        async with serving(engine, tokens) as url, as_user("anna") as web:
            transport: Any = streamable_http_client(url, http_client=web)
            async with Client(transport, mode="legacy") as client:
                before = (await client.call_tool("status", {})).structured_content
                tokens["anna"] = Access("anna", folders=(str(one.root),))
                after = (await client.call_tool("status", {})).structured_content
    assert [[each["path"] for each in document["folders"]] for document in (before, after)] == [
        [str(one.root), str(two.root)],
        [str(one.root)],
    ]
    assert two.never_asked[0] not in json.dumps(after)


def message(method: str, number: int | None, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, **({} if number is None else {"id": number})}
