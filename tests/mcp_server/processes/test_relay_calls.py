"""What is asked again, what is not, and what a client is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_server.processes.relay_calls import LOST, Calls


def line(method: str, number: int | None = 1, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if number is not None:
        message["id"] = number
    return json.dumps(message).encode() + b"\n"


def answer(number: object, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, **(more or {"result": {}})}).encode() + b"\n"


@pytest.mark.parametrize(
    "call",
    [
        line("tools/call", name="search", arguments={"query": "x"}),
        line("tools/call", name="read", arguments={"path": "/x"}),
        line("tools/call", name="status"),
        line("tools/list"),
        line("ping"),
        line("server/discover"),
        line("initialize", protocolVersion="2025-06-18"),
    ],
)
def test_a_call_that_only_reads_is_asked_again_once(call: bytes) -> None:
    calls = Calls()
    calls.sent(call)
    assert calls.lost("it ended", []) == ([], [call])
    errors, again = calls.lost("it ended", [])
    assert again == []
    error = json.loads(errors[0])
    assert (error["id"], error["error"]["code"], error["error"]["data"]["retryable"]) == (1, LOST, True)
    assert not calls.open


@pytest.mark.parametrize("call", [line("tools/call", name="reindex"), line("tasks/cancel"), line("tools/call")])
def test_of_any_other_call_the_client_is_told_what_is_unknown(call: bytes) -> None:
    calls = Calls()
    calls.sent(call)
    errors, again = calls.lost("it ended", [])
    assert again == []
    error = json.loads(errors[0])["error"]
    assert "it ended" in error["message"]
    assert "not known whether it was done" in error["message"]
    assert error["data"]["retryable"] is False


def test_a_call_that_was_never_sent_is_neither_lost_nor_asked_twice() -> None:
    calls = Calls()
    waiting, sent = line("tools/call", 1, name="reindex"), line("ping", 2)
    calls.sent(waiting)
    calls.sent(sent)
    assert calls.lost("it ended", [waiting]) == ([], [sent])
    assert calls.lost("it ended", [waiting])[0]
    assert calls.lost("it ended", [])[0]


def test_an_answered_or_cancelled_call_is_not_asked_again() -> None:
    calls = Calls()
    calls.sent(line("ping", 1))
    calls.sent(line("ping", 2))
    assert calls.received(answer(1))
    calls.sent(line("notifications/cancelled", None, requestId=2))
    assert calls.lost("it ended", []) == ([], [])


def test_calls_keep_their_order() -> None:
    calls = Calls()
    sent = [line("ping", number) for number in (3, 1, 2)]
    for one in sent:
        calls.sent(one)
    assert calls.lost("it ended", [])[1] == sent


def test_ids_of_text_and_number_are_different_calls() -> None:
    calls = Calls()
    calls.sent(b'{"jsonrpc": "2.0", "id": "1", "method": "ping"}\n')
    calls.sent(line("ping", 1))
    calls.received(answer("1"))
    assert calls.lost("it ended", [])[1] == [line("ping", 1)]


def test_the_handshake_is_replayed_under_an_id_of_ours_and_its_answer_kept_from_the_client() -> None:
    calls = Calls()
    assert calls.replay() == b""
    hello, greeted = line("initialize", 0, protocolVersion="2025-06-18"), line("notifications/initialized", None)
    calls.sent(hello)
    assert calls.replay() == b""  # still at it: the client's own line is asked again
    calls.received(answer(0))
    calls.sent(greeted)
    replayed = json.loads(calls.replay())
    assert replayed["params"] == {"protocolVersion": "2025-06-18"}
    assert replayed["id"] != 0
    assert calls.is_replay(answer(replayed["id"]))
    assert not calls.is_replay(answer(0))
    assert not calls.received(answer(replayed["id"]))
    assert calls.after_replay() == greeted


def test_a_client_of_the_stateless_protocol_has_no_handshake_to_replay() -> None:
    calls = Calls()
    calls.sent(line("server/discover", 1))
    calls.received(answer(1))
    assert calls.replay() == b""


def test_a_refused_handshake_is_not_replayed() -> None:
    calls = Calls()
    calls.sent(line("initialize", 0))
    calls.received(answer(0, error={"code": 1, "message": "no"}))
    assert calls.replay() == b""


def test_progress_of_a_call_asked_again_does_not_begin_anew() -> None:
    calls = Calls()
    calls.sent(line("tools/call", 1, name="search", _meta={"progressToken": "t"}))
    progress = line("notifications/progress", None, progressToken="t", progress=0)
    assert calls.received(progress)
    calls.lost("it ended", [])
    assert not calls.received(progress)
    assert calls.received(line("notifications/progress", None, progressToken="other", progress=0))


@pytest.mark.parametrize("junk", [b"\n", b"nonsense\n", b"[]\n", b"1\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_what_is_not_a_message_is_carried_and_not_understood(junk: bytes) -> None:
    calls = Calls()
    calls.sent(junk)
    assert calls.received(junk)
    assert not calls.open


def listen(number: int) -> bytes:
    return line("subscriptions/listen", number, notifications={"resourceSubscriptions": ["folder-mcp://status"]})


def told(method: str, **params: Any) -> bytes:
    return line(method, None, **params)


def test_listening_is_no_open_call_and_begins_again_with_every_server() -> None:
    calls = Calls()
    calls.sent(listen(7))
    assert not calls.open
    for _ in range(3):
        assert calls.lost("it ended", []) == ([], [])
        assert calls.listen_requests([]) == listen(7)
    assert calls.listen_requests([listen(7)]) == b"", "it was never sent: it waits in the queue"


@pytest.mark.parametrize("end", [answer(7), line("notifications/cancelled", None, requestId=7)])
def test_listening_ends_with_its_answer_or_its_cancellation(end: bytes) -> None:
    calls = Calls()
    calls.sent(listen(7))
    if b"result" in end:
        assert calls.received(end)
    else:
        calls.sent(end)
    assert calls.listen_requests([]) == b""


def test_that_it_is_listened_to_is_told_once_and_changes_always() -> None:
    calls = Calls()
    meta = {"io.modelcontextprotocol/subscriptionId": 7}
    begun = told("notifications/subscriptions/acknowledged", notifications={}, _meta=meta)
    change = told("notifications/resources/updated", uri="folder-mcp://status", _meta=meta)
    assert [calls.received(each) for each in (begun, change, begun, change)] == [True, True, False, True]


def test_subscriptions_follow_the_replayed_handshake_and_their_answers_stay_here() -> None:
    calls = Calls()
    calls.sent(line("initialize", 0, protocolVersion="2025-06-18"))
    assert calls.received(answer(0))
    greeted = line("notifications/initialized", None)
    calls.sent(greeted)
    calls.sent(line("resources/subscribe", 1, uri="folder-mcp://status"))
    calls.sent(line("resources/subscribe", 2, uri="test://other"))
    calls.sent(line("resources/unsubscribe", 3, uri="test://other"))
    for number in (1, 2, 3):
        assert calls.received(answer(number))
    calls.replay()
    after = calls.after_replay()
    assert after.startswith(greeted)
    (again,) = [json.loads(each) for each in after.removeprefix(greeted).splitlines()]
    assert (again["method"], again["params"]) == ("resources/subscribe", {"uri": "folder-mcp://status"})
    assert not calls.received(answer(again["id"]))


def test_two_calls_with_one_id_are_both_kept_until_each_is_answered() -> None:
    calls = Calls()
    first, second = line("ping", 7), line("tools/list", 7)
    calls.sent(first)
    calls.sent(second)
    calls.received(answer(7))
    assert calls.lost("it ended", []) == ([], [second])
    calls.received(answer(7))
    assert not calls.open


@pytest.mark.parametrize("name", [["search"], {"a": 1}, None, 5, "search\ud800"])
def test_a_tool_whose_name_is_none_is_a_call_like_others(name: object) -> None:
    calls = Calls()
    calls.sent(line("tools/call", 7, name=name))
    errors, repeated = calls.lost("it ended", [])
    assert (len(errors), repeated) == (1, [])
    assert json.loads(errors[0])["id"] == 7


@pytest.mark.parametrize("identity", ["folder-mcp/replay/1", "folder-mcp/", "", None, 0])
def test_no_id_of_a_client_is_taken_for_one_of_ours(identity: object) -> None:
    calls = Calls()
    calls.sent(json.dumps({"jsonrpc": "2.0", "id": identity, "method": "ping"}).encode())
    assert calls.received(answer(identity))
    assert not calls.open
