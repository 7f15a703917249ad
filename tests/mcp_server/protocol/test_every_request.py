"""One connection, in memory, whose client sends whatever it likes: each id is answered once, and it can go on."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from fakes_engine import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server import MCPServer
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse
from odd_messages import HANDSHAKE, MODERN, STRAY, expects_no_result, requests

from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.transport import LONG_LINE, line_of, serve_lines

Shared = tuple[MCPServer[ConnectionContext], list[ConnectionContext]]


async def conversation(server: MCPServer[ConnectionContext], lines: Sequence[bytes], *, last: str) -> list[Any]:
    """Send lines to a server; return all answers once the one with the id ``last`` is there."""
    to_server, incoming = anyio.create_memory_object_stream[bytes](math.inf)
    answers: list[Any] = []
    done = anyio.Event()

    async def write(line: bytes) -> None:
        assert b"\n" not in line
        answers.append(json.loads(line))
        if answers[-1].get("id") == last:
            done.set()

    for line in lines:
        to_server.send_nowait(line)
    engine = FakeEngine(["/nowhere"])
    engine.started = True
    with anyio.fail_after(60):
        async with incoming, anyio.create_task_group() as group:
            context = ConnectionContext(engine)
            group.start_soon(serve_lines, server._lowlevel_server, incoming, write, context)
            await done.wait()
            await anyio.wait_all_tasks_blocked()
            to_server.close()
    return answers


def answered(answers: Sequence[Any]) -> Counter[str]:
    """How often each text id was answered."""
    return Counter(each["id"] for each in answers if "method" not in each and isinstance(each["id"], str))


def asked(method: str, identity: str, params: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params or {}}).encode()


def opening(*, modern: bool) -> list[bytes]:
    if modern:
        return [asked("tools/list", "first", {"_meta": MODERN})]
    initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    return [asked("initialize", "first", HANDSHAKE), initialized]


def ping(*, modern: bool) -> bytes:
    return asked("tools/list", "last", {"_meta": MODERN}) if modern else asked("ping", "last")


@pytest.mark.slow
@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("modern", [False, True])
@settings(max_examples=settings().max_examples * 2)
@given(data=st.data())
def test_each_id_is_answered_once_and_the_client_goes_on(
    modern: bool, opened: bool, data: st.DataObject, shared_server: Shared
) -> None:
    messages = data.draw(st.lists(requests(modern=modern), min_size=1, max_size=12))
    lines = opening(modern=modern) if opened else []
    owed = {"last"} | ({"first"} if opened else set())
    for number, message in enumerate(messages):
        lines += data.draw(st.lists(STRAY, max_size=2))
        lines.append(json.dumps({**message, "id": f"id {number}"}).encode())
        if not expects_no_result(message):
            owed.add(f"id {number}")
    answers = anyio.run(conversation_to_the_end, shared_server[0], lines, modern)
    assert answered(answers) == Counter(owed)


async def conversation_to_the_end(server: MCPServer[ConnectionContext], lines: list[bytes], modern: bool) -> list[Any]:
    """The last request is of the connection's era, or is refused, which is an answer too."""
    return await conversation(server, [*lines, ping(modern=modern)], last="last")


class ParsedLine(bytes):
    """A line that tells in which thread it is read."""

    thread = 0

    def strip(self, chars: Any = None, /) -> bytes:
        self.thread = threading.get_ident()
        return super().strip(chars)


async def test_a_long_line_is_read_in_another_thread_and_the_order_is_kept(shared_server: Shared) -> None:
    long, short = (ParsedLine(asked("ping", "x" * size)) for size in (LONG_LINE, 10))
    answers = await conversation(
        shared_server[0], [*opening(modern=False), long, short, ping(modern=False)], last="last"
    )
    assert [each["id"][:5] for each in answers if "id" in each] == ["first", "xxxxx", "xxxxx", "last"]
    assert short.thread == threading.get_ident() != long.thread != 0


async def test_two_requests_with_one_id_are_both_answered(shared_server: Shared) -> None:
    lines = [*opening(modern=False), *[asked("ping", "same")] * 20, ping(modern=False)]
    answers = await conversation(shared_server[0], lines, last="last")
    assert answered(answers)["same"] == 20


async def test_a_request_that_is_cancelled_twice_ends_nothing(shared_server: Shared) -> None:
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}'
    cancels = [cancel % what for what in (b'"a"', b'"a"', b"null", b"[1]", b"{}", b"1.5", b'"\\ud800"', b"true")]
    lines = [*opening(modern=False), asked("ping", "a"), *cancels, ping(modern=False)]
    assert answered(await conversation(shared_server[0], lines, last="last"))["last"] == 1


async def test_a_batch_is_answered_message_by_message(shared_server: Shared) -> None:
    batch = b"[%s]" % b",".join([asked("ping", "a"), asked("no/such", "b"), b'{"id":"c"}', b"5"])
    answers = await conversation(shared_server[0], [*opening(modern=False), batch, ping(modern=False)], last="last")
    by_id = {each["id"]: each for each in answers}
    assert by_id["a"]["result"] == {}
    assert by_id["b"]["error"]["code"] == -32601
    assert by_id["c"]["error"]["code"] == -32600
    assert by_id[None]["error"]["code"] == -32600


@pytest.mark.parametrize("version", ["1999-01-01", "", 5, None, "2026-07-28"])
async def test_an_initialize_of_an_unknown_version_is_answered(version: object, shared_server: Shared) -> None:
    first = asked("initialize", "first", {**HANDSHAKE, "protocolVersion": version})
    answers = await conversation(shared_server[0], [first, ping(modern=False)], last="last")
    assert answered(answers) == Counter(["first", "last"])


@pytest.mark.parametrize("meta", [None, 5, "text", [], {}, {"progressToken": []}, {**MODERN, next(iter(MODERN)): 5}])
@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
async def test_a_malformed_envelope_is_answered(meta: object, method: str, shared_server: Shared) -> None:
    answers = await conversation(
        shared_server[0], [asked(method, "a", {"_meta": meta}), ping(modern=False)], last="last"
    )
    assert answered(answers) == Counter(["a", "last"])


async def test_what_comes_before_the_first_request_is_kept_in_bounds(shared_server: Shared) -> None:
    notes = [b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}'] * 5000
    answers = await conversation(shared_server[0], [*notes, *opening(modern=False), ping(modern=False)], last="last")
    assert answered(answers) == Counter(["first", "last"])


@pytest.mark.parametrize("path", ["file:///x%FFy", "a\ud800b", "a\x00b", "~\x00", "\udcff", "file://[::1", "%ff%fe"])
async def test_an_answer_about_a_path_that_is_no_text_is_text(path: str, shared_server: Shared) -> None:
    call = asked("tools/call", "a", {"name": "read", "arguments": {"path": path}})
    answers = await conversation(shared_server[0], [*opening(modern=False), call, ping(modern=False)], last="last")
    (answer,) = [each for each in answers if each["id"] == "a"]
    assert answer["result"]["isError"]
    assert "search" in answer["result"]["content"][0]["text"]
    assert answered(answers)["last"] == 1


def test_an_answer_that_is_no_text_is_repaired_and_sent() -> None:
    """The last barrier, for what no tool has repaired: a line that cannot be written would end the connection."""
    message = JSONRPCResponse(jsonrpc="2.0", id="a\udc80", result={"text": "b\ud800"})
    assert json.loads(line_of(SessionMessage(message)))["result"] == {"text": "b\ufffd"}


@pytest.mark.parametrize("nothing", [None, "", "null", "None", " undefined ", [], ["null"], [None, ""]])
async def test_null_in_every_spelling_means_not_given(nothing: object, shared_server: Shared) -> None:
    names = ("top_k", "offset", "folders", "path_glob", "modified_after", "mode", "file_types", "context", "max_chars")
    call = asked("tools/call", "a", {"name": "search", "arguments": {"query": "x", **dict.fromkeys(names, nothing)}})
    answers = await conversation(shared_server[0], [*opening(modern=False), call, ping(modern=False)], last="last")
    (answer,) = [each for each in answers if each["id"] == "a"]
    assert not answer["result"].get("isError"), answer
