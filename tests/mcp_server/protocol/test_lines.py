"""Lines of clients: what becomes a message, what an error, and with which id."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import jsonrpc_message_adapter
from odd_messages import STRAY, VALUES, requests

from mcp_server.protocol.lines import (
    HEAD,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_BATCH,
    MAX_DEPTH,
    MAX_OPENED,
    PARSE_ERROR,
    TAIL,
    LineBuffer,
    TooLong,
    encoded,
    id_in,
    read_line,
)


def only_error(line: bytes | TooLong) -> tuple[Any, int]:
    messages, errors = read_line(line)
    assert (messages, len(errors)) == ([], 1)
    return errors[0]["id"], errors[0]["error"]["code"]


def request(**changes: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": "ping", **changes}
    return json.dumps({key: value for key, value in message.items() if value is not ...}).encode()


@pytest.mark.parametrize("params", [[], [1], 1, 1.5, "text", True])
def test_params_that_are_no_object_are_answered_with_the_id(params: object) -> None:
    assert only_error(request(params=params)) == (7, INVALID_PARAMS)


@pytest.mark.parametrize(
    "changes",
    [{"method": 5}, {"method": None}, {"method": ...}, {"method": ["ping"]}, {"jsonrpc": ...}, {"jsonrpc": "1.0"},
     {"jsonrpc": 2.0}, {"jsonrpc": None}],
)  # fmt: skip
def test_an_envelope_with_wrong_types_is_answered_with_the_id(changes: dict[str, Any]) -> None:
    assert only_error(request(**changes)) == (7, INVALID_REQUEST)


@pytest.mark.parametrize("identity", [0, -1, 1, 10**30, "", "7", "\u00e9", "x" * 1000])
def test_text_and_whole_numbers_are_ids(identity: object) -> None:
    messages, errors = read_line(request(id=identity))
    assert (messages, errors) == ([{"jsonrpc": "2.0", "id": identity, "method": "ping"}], [])


@pytest.mark.parametrize(("identity", "answered"), [(1.5, 1.5), (1.0, 1.0), (True, None), (None, None), ([1], None)])
def test_another_id_is_refused_with_it_where_json_rpc_knows_such_an_id(identity: object, answered: object) -> None:
    assert only_error(request(id=identity)) == (answered, INVALID_REQUEST)


def test_an_id_with_half_a_character_comes_back_as_it_was() -> None:
    messages, errors = read_line(b'{"jsonrpc":"2.0","id":"a\\ud800","method":"ping"}')
    assert (messages, errors[0]["id"]) == ([], "a\ud800")
    assert b'"id":"a\\ud800"' in encoded(errors[0])


def test_a_number_that_is_no_number_is_no_json() -> None:
    for number in (b"NaN", b"Infinity", b"-Infinity"):
        assert only_error(b'{"jsonrpc":"2.0","id":3,"method":"ping","params":{"x":%s}}' % number) == (3, PARSE_ERROR)
    assert only_error(b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}') == (None, PARSE_ERROR)
    assert only_error(b'{"jsonrpc":"2.0","id":5,"method":"ping","params":{"a":-1e999}}') == (5, PARSE_ERROR)
    assert only_error(b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % (b"9" * 5000)) == (None, PARSE_ERROR)


def test_text_that_is_no_unicode_is_repaired() -> None:
    for spelled in (b"\\ud800", b"\xff", b"\xed\xa0\x80"):
        line = b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a%s":["b%s"]}}' % (spelled, spelled)
        (message,), errors = read_line(line)
        assert not errors
        ((key, (value,)),) = message["params"].items()
        assert (key.rstrip("\ufffd"), value.rstrip("\ufffd")) == ("a", "b")
        encoded(message).decode("utf-8")
        assert "\ufffd" in key
        assert "\ufffd" in value


def test_a_whole_character_written_as_two_escapes_is_left_alone() -> None:
    (message,), _ = read_line(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud83d\\ude00"}}')
    assert message["params"] == {"a": "\U0001f600"}


def test_of_equal_keys_the_last_counts() -> None:
    (message,), _ = read_line(b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x","method":"ping"}')
    assert (message["id"], message["method"]) == (2, "ping")


def test_deep_nesting_is_refused_and_the_id_found() -> None:
    deep = b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":%s%s}}'
    inside = MAX_DEPTH - 2
    assert read_line(deep % (b"[" * inside, b"]" * inside))[0]
    for count in (inside + 1, 500, MAX_OPENED - 2):
        assert only_error(deep % (b"[" * count, b"]" * count)) == (4, PARSE_ERROR)
    assert only_error(b"[" * MAX_OPENED) == (None, PARSE_ERROR)


def test_very_many_lists_and_objects_are_refused_before_they_are_parsed_and_the_id_found() -> None:
    at_most = request(params={"a": [[]] * (MAX_OPENED - 3)})
    assert at_most.count(b"[") + at_most.count(b"{") == MAX_OPENED
    assert len(read_line(at_most)[0]) == 1
    assert only_error(request(params={"a": [[]] * (MAX_OPENED - 2)})) == (7, INVALID_REQUEST)
    assert only_error(request(params={"a": [{}] * 2_000_000})) == (7, INVALID_REQUEST)
    assert only_error(b"[" * 1_000_000) == (None, INVALID_REQUEST)


def test_a_batch_is_its_messages_one_by_one() -> None:
    batch = [json.loads(request(id=number)) for number in range(3)]
    line = json.dumps([*batch, {"id": 9}, 5, {"jsonrpc": "2.0", "method": "notifications/initialized"}]).encode()
    messages, errors = read_line(line)
    assert [message.get("id") for message in messages] == [0, 1, 2, None]
    assert [error["id"] for error in errors] == [9, None]
    assert only_error(b"[]") == (None, INVALID_REQUEST)
    assert only_error(json.dumps([{}] * (MAX_BATCH + 1)).encode()) == (None, INVALID_REQUEST)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"  \r",
        b'{"jsonrpc":"2.0","id":1,"result":5}',
        b'{"id":1,"error":"x"}',
        b'{"jsonrpc":"2.0","method":"x","params":[]}',
    ],
)
def test_what_needs_no_answer_gets_none(line: bytes) -> None:
    assert read_line(line) == ([], [])


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"jsonrpc":"2.0","id":5,"method":"x","params":{"q":"aaa', b"", 5),
        (b'{"params":{"id":1,"x":[{"id":2}]},"id":"a\\"b","q":"', b"", 'a"b'),
        (b'{"method":"x","params":{"id":1,"q":"aaa', b'aaa"},"jsonrpc":"2.0","id":6}', 6),
        (b'{"method":"x","params":{"q":"aaa', b'aaa"}, "id": "t" , "jsonrpc": "2.0" } ', "t"),
        (b'{"method":"x","params":{"q":"aaa', b'aaa","id":6}}', None),
        (b'{"method":"id","x":1', b"", None),
        (b'{"id":12', b"", None),
        (b'["id":3,', b"", None),
        (b'"id":3,', b"", None),
        (b'{"a":"' + b"\\" * (HEAD - 6), b"", None),
        (b'{"a":' + b'"\\' * (HEAD // 2), b"", None),
        (b"", b"", None),
    ],
)
def test_the_id_of_a_message_that_was_cut_off(head: bytes, tail: bytes, found: object) -> None:
    assert id_in(head, tail) == found


def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_read() -> None:
    buffer = LineBuffer(limit=100)
    long = request(id=8, params={"q": "a" * 200_000})
    lines = [line for at in range(0, len(long), 4096) for line in buffer.feed(long[at : at + 4096])]
    lines += buffer.feed(b"\n" + request() + b"\nrest")
    assert isinstance(lines[0], TooLong)
    assert (len(lines[0].head), len(lines[0].tail)) == (4096, TAIL)
    assert only_error(lines[0]) == (8, INVALID_REQUEST)
    assert lines[1:] == [request()]
    assert (buffer.end(), buffer.end()) == ([b"rest"], [])


@given(st.lists(st.binary(max_size=30)), st.integers(1, 7))
def test_lines_come_out_as_they_went_in_however_they_arrive(lines: list[bytes], step: int) -> None:
    lines = [line.replace(b"\n", b" ") for line in lines]
    stream, buffer = b"".join(line + b"\n" for line in lines), LineBuffer()
    assert [line for at in range(0, len(stream), step) for line in buffer.feed(stream[at : at + step])] == lines
    assert buffer.end() == []


@given(STRAY | st.binary(max_size=60))
def test_any_line_becomes_messages_that_the_sdk_takes_or_errors_that_json_can_write(line: bytes) -> None:
    messages, errors = read_line(line)
    for message in messages:
        jsonrpc_message_adapter.validate_python(message, by_name=False).model_dump_json()
    assert all(json.loads(encoded(error)) == error for error in errors)


@given(requests(modern=False), st.integers() | st.text(max_size=8) | VALUES)
def test_every_message_with_an_id_is_passed_on_or_answered_with_it(message: dict[str, Any], identity: object) -> None:
    line = json.dumps({**message, "id": identity}).encode()
    messages, errors = read_line(line)
    if "method" not in message and "result" not in message:
        assert errors
    assert len(messages) + len(errors) == 1
    named = (messages + errors)[0]["id"]
    assert named == identity or (named is None and not isinstance(identity, str | int)) or isinstance(identity, bool)
