"""MCP over HTTP within bounds, and an answer with its id to every request; the SDK's application, called in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from fakes import virtual_backend
from fakes_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.transport_security import TransportSecuritySettings
from odd_messages import HANDSHAKE, MODERN, expects_no_result, requests

from mcp_server.access.access import Access
from mcp_server.access.tokens import GrantedToken
from mcp_server.engine_port import ConnectionContext
from mcp_server.processes import http_connection, http_sessions
from mcp_server.processes.http_connection import BoundedConnection
from mcp_server.processes.http_sessions import BODY_S, MAX_BODY, BoundedSessions
from mcp_server.processes.session import create_session_server
from mcp_server.protocol.lines import MAX_LINE

VERSION = {"mcp-protocol-version": "2025-11-25"}
MODERN_VERSION = {"mcp-protocol-version": "2026-07-28"}


@dataclass
class Answer:
    """What one request was answered with."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def messages(self) -> list[Any]:
        if not self.body:
            return []
        if "event-stream" not in self.headers.get("content-type", ""):
            document = json.loads(self.body)
            return document if isinstance(document, list) else [document]
        lines = self.body.decode().replace("\r\n", "\n").split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    @property
    def answers(self) -> list[Any]:
        return [each for each in self.messages if "method" not in each]


async def post(app: Any, body: bytes, method: str = "POST", **headers: str) -> Answer:
    """Send one request and take the whole answer; the client stays until then."""
    got: list[Any] = []
    received = [{"type": "http.request", "body": body, "more_body": False}]
    gone = anyio.Event()

    async def receive() -> Any:
        if received:
            return received.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            gone.set()

    accepted = {"accept": "application/json, text/event-stream", "content-type": "application/json", "host": "x"}
    names = [(name.encode(), value.encode()) for name, value in {**accepted, **headers}.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": "/mcp", "raw_path": b"/mcp", "query_string": b"", "root_path": "", "headers": names,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    head = {name.decode().lower(): value.decode() for name, value in got[0]["headers"]}
    return Answer(got[0]["status"], head, b"".join(each.get("body", b"") for each in got[1:]))


def message(method: str, identity: object = 1, params: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params or {}}).encode()


@asynccontextmanager
async def application(engine: FakeEngine, **limits: int) -> AsyncIterator[BoundedSessions]:
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    inner = create_session_server(ConnectionContext(engine)).streamable_http_app(transport_security=security)
    async with inner.router.lifespan_context(inner):
        yield BoundedSessions(inner, **limits)


async def opened(app: BoundedSessions) -> dict[str, str]:
    """Open a session; return the headers of its requests."""
    answer = await post(app, message("initialize", params=HANDSHAKE))
    assert answer.status == 200, answer
    headers = {"mcp-session-id": answer.headers["mcp-session-id"], **VERSION}
    note = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert (await post(app, note, **headers)).status == 202
    return headers


async def ping(app: BoundedSessions, headers: dict[str, str]) -> int:
    return (await post(app, message("ping"), **headers)).status


async def test_the_session_used_longest_ago_ends_when_there_are_too_many(engine: FakeEngine) -> None:
    async with application(engine, max_sessions=3) as app:
        first, second, third = [await opened(app) for _ in range(3)]
        assert await ping(app, first) == 200
        fourth = await opened(app)
        assert [await ping(app, each) for each in (first, second, third, fourth)] == [200, 404, 200, 200]


async def test_a_session_with_a_call_in_flight_is_not_ended_for_another(engine: FakeEngine) -> None:
    async with application(engine, max_sessions=2) as app, anyio.create_task_group() as group:
        busy = await opened(app)
        engine.gate = anyio.Event()
        answers: list[Answer] = []
        search = message("tools/call", 5, {"name": "search", "arguments": {"query": "key"}})

        async def call() -> None:
            answers.append(await post(app, search, **busy))

        group.start_soon(call)
        await engine.searching.wait()
        idle = await opened(app)
        await opened(app)
        assert await ping(app, idle) == 404
        engine.gate.set()
    assert answers[0].answers[0]["id"] == 5
    assert "structuredContent" in answers[0].answers[0]["result"]


async def test_many_sessions_that_are_left_leave_no_more_than_the_bound(engine: FakeEngine) -> None:
    async with application(engine, max_sessions=5) as app:
        for _ in range(40):
            await opened(app)
        assert len(app._sessions) == 5
        ended = await opened(app)
        assert (await post(app, b"", "DELETE", **ended)).status == 200
        assert (await ping(app, ended), len(app._sessions)) == (404, 4)


def as_user(app: BoundedSessions, name: str) -> Any:
    """The application as a user with a token reaches it."""
    user = AuthenticatedUser(GrantedToken(token="t", client_id=name, scopes=[], access=Access(name)))

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "user": user}, receive, send)

    return asked


async def test_a_session_is_neither_told_about_nor_changed_by_requests_of_another_user(engine: FakeEngine) -> None:
    call = message("tools/call", 5, {"name": "search", "arguments": {"query": "key"}})
    async with application(engine, max_sessions=2) as app:
        ann, bob = as_user(app, "ann"), as_user(app, "bob")
        first, second = await opened(ann), await opened(ann)
        engine.gate = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: post(ann, call, **first))
            await engine.searching.wait()
            unknown = await post(bob, call, **{**VERSION, "mcp-session-id": "f" * 32})
            for body, method, session in ((call, "POST", first), (b"", "DELETE", first), (call, "POST", second)):
                answer = await post(bob, body, method, **session)
                assert answer.status == unknown.status == 404
                assert method == "DELETE" or answer.body == unknown.body
            engine.gate.set()
        assert [await ping(ann, first), await ping(ann, second)] == [200, 200]
        await opened(bob)  # one of ann's ends for it: both still count
        assert [await ping(ann, first), await ping(ann, second)] == [404, 200]


async def test_a_user_who_opens_many_sessions_ends_none_of_others(engine: FakeEngine) -> None:
    async with application(engine, max_sessions=4) as app:
        ann, bob = as_user(app, "ann"), as_user(app, "bob")
        hers = await opened(ann)
        his = [await opened(bob) for _ in range(8)]
        assert await ping(ann, hers) == 200
        assert [await ping(bob, each) for each in his] == [404] * 5 + [200] * 3


async def test_a_user_who_keeps_many_sessions_busy_ends_none_of_others_nor_keeps_them_out(
    engine: FakeEngine,
) -> None:
    call = message("tools/call", 5, {"name": "search", "arguments": {"query": "key"}})
    async with application(engine, max_sessions=4) as app, anyio.create_task_group() as group:
        ann, bob, carl = (as_user(app, name) for name in ("ann", "bob", "carl"))
        hers = await opened(ann)
        engine.gate = anyio.Event()
        for _ in range(4):
            group.start_soon(_answered_or_ended, bob, call, await opened(bob))
            await anyio.wait_all_tasks_blocked()
        assert await ping(ann, hers) == 200
        his = await opened(carl)
        assert [await ping(ann, hers), await ping(carl, his)] == [200, 200]
        engine.gate.set()


async def _answered_or_ended(app: Any, body: bytes, session: dict[str, str]) -> None:
    assert (await post(app, body, **session)).status == 200


async def test_an_id_that_is_in_use_is_refused_and_the_first_request_answered(engine: FakeEngine) -> None:
    async with application(engine) as app, anyio.create_task_group() as group:
        headers = await opened(app)
        engine.gate = anyio.Event()
        answers: list[Answer] = []
        search = message("tools/call", 5, {"name": "search", "arguments": {"query": "key"}})

        async def call() -> None:
            answers.append(await post(app, search, **headers))

        group.start_soon(call)
        await engine.searching.wait()
        second = await post(app, message("ping", "5"), **headers)
        assert (second.status, second.answers[0]["id"]) == (400, "5")
        assert "use another" in second.answers[0]["error"]["message"]
        engine.gate.set()
    assert "result" in answers[0].answers[0]


async def test_a_notification_does_not_free_the_id_of_a_call_in_flight(engine: FakeEngine) -> None:
    async with application(engine) as app, anyio.create_task_group() as group:
        headers = await opened(app)
        engine.gate = anyio.Event()
        search = message("tools/call", "None", {"name": "search", "arguments": {"query": "key"}})
        group.start_soon(lambda: post(app, search, **headers))
        await engine.searching.wait()
        note = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
        assert (await post(app, note, **headers)).status == 202
        assert (await post(app, message("ping", "None"), **headers)).status == 400
        engine.gate.set()


async def test_event_streams_of_one_request_are_bounded(engine: FakeEngine) -> None:
    async with application(engine, max_listening=0) as app:
        answer = await post(app, message("subscriptions/listen", 3, {"_meta": MODERN}), **MODERN_VERSION)
    assert (answer.status, answer.answers[0]["id"]) == (503, 3)


async def test_a_user_who_takes_all_event_streams_keeps_none_of_others_from_listening(engine: FakeEngine) -> None:
    headers = {**MODERN_VERSION, "mcp-method": "subscriptions/listen"}
    listened: list[tuple[str, int, int]] = []
    async with application(engine, max_listening=4) as app, anyio.create_task_group() as group:

        async def listen(who: str, number: int) -> None:
            params = {"_meta": MODERN, "notifications": {"toolsListChanged": True}}
            asked = message("subscriptions/listen", number, params)
            listened.append((who, number, (await post(as_user(app, who), asked, **headers)).status))

        for number in range(5):
            group.start_soon(listen, "bob", number)
            await anyio.wait_all_tasks_blocked()
        assert listened == [("bob", 4, 503)], "nobody else is there: the last is refused"
        for number in range(3):
            group.start_soon(listen, "ann", number)
            await anyio.wait_all_tasks_blocked()
        assert listened[1:] == [("bob", 0, 200), ("bob", 1, 200), ("ann", 2, 503)], "each has half"
        group.cancel_scope.cancel()
    assert len(app._listening) == 0


@pytest.mark.parametrize(
    ("body", "status", "identity"),
    [
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":[]}', 400, 4),
        (b'{"jsonrpc":"2.0","id":"x","method":5}', 400, "x"),
        (b'{"jsonrpc":"2.0","id":4,"method":', 400, 4),
        (b'{"id":4}', 400, 4),
        (b"[" * 100_000, 400, None),
        (b"", 400, None),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":"' + b"a" * MAX_BODY, 413, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"tools/list"}', 400, 4),
    ],
)
async def test_a_request_that_is_refused_is_told_so_with_its_id(
    body: bytes, status: int, identity: object, engine: FakeEngine
) -> None:
    async with application(engine) as app:
        answer = await post(app, body)
    assert (answer.status, [each["id"] for each in answer.answers]) == (status, [identity])
    assert answer.answers[0]["error"]["message"]
    assert f"{MAX_LINE >> 20} MiB" not in answer.answers[0]["error"]["message"]


async def test_errors_of_the_sdk_get_the_id_of_their_request(engine: FakeEngine) -> None:
    async with application(engine) as app:
        unknown = await post(app, message("ping", 8), **{"mcp-session-id": "none", **VERSION})
        assert (unknown.status, unknown.answers[0]["id"]) == (404, 8)
        wanted = await post(app, message("ping", 9), accept="text/plain")
        assert (wanted.status, wanted.answers[0]["id"]) == (406, 9)
        kind = await post(app, message("ping", 10), **{"content-type": "text/plain"})
        assert (kind.status, kind.answers[0]["id"]) == (400, 10)
        version = await post(app, message("ping", 11), **{"mcp-protocol-version": "1999-01-01"})
        assert (version.status, version.answers[0]["id"]) == (400, 11)


async def test_a_batch_is_refused_message_by_message(engine: FakeEngine) -> None:
    batch = b"[%s]" % b",".join([message("ping", 1), message("ping", "b"), b'{"id":3}'])
    async with application(engine) as app:
        headers = await opened(app)
        answer = await post(app, batch, **headers)
        assert (answer.status, sorted(str(each["id"]) for each in answer.answers)) == (400, ["1", "3", "b"])
        assert await ping(app, headers) == 200


@pytest.mark.slow
@pytest.mark.parametrize("modern", [False, True])
@given(data=st.data())
def test_every_body_with_an_id_is_answered_with_it(modern: bool, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(requests(modern=modern), min_size=1, max_size=8))
    engine = FakeEngine(["/nowhere"])
    engine.started = True

    async def talk() -> None:
        async with application(engine) as app:
            headers = MODERN_VERSION if modern else await opened(app)
            for number, body in enumerate(bodies):
                sent = {**headers, "mcp-method": str(body.get("method")).encode("ascii", "replace").decode()}
                answer = await post(app, json.dumps({**body, "id": f"id {number}"}).encode(), **sent)
                if not expects_no_result(body):
                    assert [each["id"] for each in answer.answers] == [f"id {number}"]
            if not modern:
                assert await ping(app, headers) == 200

    anyio.run(talk)


@pytest.fixture
def virtual() -> tuple[str, dict[str, Any]]:
    return virtual_backend("trio")


def test_a_body_that_comes_too_slowly_is_not_waited_for(virtual: tuple[str, dict[str, Any]]) -> None:
    """One byte a second, in virtual time."""
    got: list[Any] = []

    async def receive() -> Any:
        await anyio.sleep(1)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(sent: Any) -> None:
        got.append(sent)

    async def nobody(*_: Any) -> None:
        raise AssertionError("the SDK must not see it")

    async def talk() -> float:
        await BoundedSessions(nobody)({"type": "http", "method": "POST", "headers": []}, receive, send)
        return anyio.current_time()

    began = 0.0
    ended = anyio.run(talk, backend=virtual[0], backend_options=virtual[1])
    assert got[0]["status"] == 408
    assert ended - began == pytest.approx(BODY_S, abs=1)


class Transport(asyncio.Transport):
    """Counts what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return bool(self.aborted)


@asynccontextmanager
async def connection(app: Callable[..., Awaitable[None]]) -> AsyncIterator[tuple[BoundedConnection, Transport]]:
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    protocol, transport = BoundedConnection(config, uvicorn.server.ServerState(), {}), Transport()
    protocol.connection_made(transport)
    yield protocol, transport
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)


async def never_answers(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


REQUEST = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789"


async def test_requests_ahead_are_bounded() -> None:
    async with connection(never_answers) as (protocol, transport):
        for _ in range(http_connection.MAX_AHEAD // len(REQUEST)):
            protocol.data_received(REQUEST)
        assert not transport.aborted
        for _ in range(3):
            protocol.data_received(REQUEST)
        assert transport.aborted


async def test_a_long_body_is_not_taken_for_requests_ahead() -> None:
    async with connection(never_answers) as (protocol, transport):
        protocol.data_received(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(60):
            protocol.data_received(b"a" * 65536)
        assert not transport.aborted


async def test_a_client_that_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "UNREAD_S", 0.0)
    async with connection(never_answers) as (protocol, transport):
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not transport.aborted
        protocol.pause_writing()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert transport.aborted


def test_the_bounds_stand_in_the_right_order() -> None:
    """The SDK refuses everybody at its own bound: ours must be reached before."""
    assert http_sessions.MAX_SESSIONS < 10_000
    assert http_sessions.MAX_BODY < MAX_LINE
