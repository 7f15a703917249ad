"""A client's lines as JSON-RPC messages, and the errors that answer what is none. Standard library only.

Every line that holds an id is answered: it becomes a message that the SDK accepts, or an error with that id. What can
be repaired is: bytes that are no UTF-8 and escapes of half a character become U+FFFD, a byte order mark is dropped.
"""

from __future__ import annotations

import json
import math
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_LINE = 64 * 1024 * 1024
"""Bytes of one line; a longer one is answered with an error and passed over."""
MAX_DEPTH = 64
"""Lists and objects inside each other in one message; ours need 8."""
MAX_OPENED = 100_000
"""Opening brackets in one line, those in text too: 23 MiB of small lists took 8 s, in which no thread runs."""
MAX_BATCH = 1000
"""Messages of one batch: each may cost an answer that is longer than itself."""

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
"""Error codes of JSON-RPC 2.0."""

HEAD, TAIL = 65536, 4096
"""Bytes at both ends of an oversized line that are looked through for its id."""

_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_ID_AT_END = re.compile(
    rb'[,{]\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9.eE+-]+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$', re.DOTALL
)


class TooLong:
    """The two ends of a line that is longer than is accepted.

    Attributes:
        head: Its first ``HEAD`` bytes.
        tail: Its last ``TAIL`` bytes.
    """

    __slots__ = ("head", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail


class LineBuffer:
    """Cuts a stream of bytes at line feeds. Holds at most ``limit`` bytes of a line that has not ended."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._ends: TooLong | None = None

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Return the lines that end in ``data``, without their ends."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines.append(self._line())
        self._add(rest)
        return lines

    def end(self) -> list[bytes | TooLong]:
        """Return what is left when the stream has ended: a line without an end, or nothing."""
        return [self._line()] if self._size else []

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._ends is not None:
            self._ends.tail = (self._ends.tail + part)[-TAIL:]
            return
        self._parts.append(part)
        if self._size > self._limit:
            whole, self._parts = b"".join(self._parts), []
            self._ends = TooLong(whole[:HEAD], whole[-TAIL:])

    def _line(self) -> bytes | TooLong:
        line = self._ends or b"".join(self._parts)
        self._parts, self._size, self._ends = [], 0, None
        return line


def read_line(line: bytes | TooLong) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the messages of one line, and the errors that answer the rest of it.

    A batch is read as its messages, one after the other. A notification that is malformed gets no answer, nor does a
    response; a blank line is nothing.

    Returns:
        Requests (``id`` is text or a whole number), notifications and responses, with the keys of JSON-RPC only and
        ``params`` an object where there are any; and errors, with ``id`` as the client wrote it, None where it wrote
        none that JSON-RPC knows.
    """
    if isinstance(line, TooLong):
        text = f"the message is longer than {MAX_LINE >> 20} MiB; ask for less at a time"
        return [], [error(id_in(line.head, line.tail), INVALID_REQUEST, text)]
    if not line.strip():
        return [], []
    head = line + b"\n" if len(line) < HEAD else line[:HEAD]
    if _opened(line) > MAX_OPENED:
        text = f"the message has more than {MAX_OPENED:,} lists and objects; ask for less at a time"
        return [], [error(id_in(head, line[-TAIL:]), INVALID_REQUEST, text)]
    try:
        document = parsed(line)
    except (ValueError, RecursionError) as problem:
        return [], [error(id_in(head, line[-TAIL:]), PARSE_ERROR, f"this is no JSON: {_shortly(problem)}")]
    mend = repaired if _HALF_ESCAPE.search(line) else _unchanged  # bytes that are no UTF-8 are repaired already
    if not isinstance(document, list):
        return _sorted_out([document], mend)
    if not document:
        return [], [error(None, INVALID_REQUEST, "the batch is empty")]
    if len(document) > MAX_BATCH:
        text = f"the batch has {len(document):,} messages; send at most {MAX_BATCH:,} at a time"
        return [], [error(None, INVALID_REQUEST, text)]
    return _sorted_out(document, mend)


def parsed(line: bytes) -> Any:
    """Return the JSON value of a line; of equal keys the last one counts, as in every JSON library that we know.

    Raises:
        ValueError: It is no JSON, or nested deeper than ``MAX_DEPTH``.
        RecursionError: It is nested much deeper.
    """
    text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    document = json.loads(text, strict=False, parse_float=_finite, parse_constant=_refuse_constant)
    if _opened(line) > MAX_DEPTH and _is_deep(document):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} lists and objects")
    return document


def error(identity: Any, code: int, text: str) -> dict[str, Any]:
    """Return the JSON-RPC error that answers a message.

    Args:
        identity: The message's id; one that JSON-RPC does not know becomes null.
        code: Of JSON-RPC.
        text: What is wrong and what to do.
    """
    return {
        "jsonrpc": "2.0",
        "id": identity if _can_be_answered(identity) else None,
        "error": {"code": code, "message": text},
    }


def encoded(message: Any) -> bytes:
    """Return a message as one line without its end; ASCII, so that an id holds whatever the client wrote."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def repaired(value: Any) -> Any:
    """Return a JSON value with each half of a character (a lone surrogate), in keys too, replaced by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {repaired(key): repaired(each) for key, each in value.items()}
    return [repaired(each) for each in value] if isinstance(value, list) else value


def id_in(head: bytes, tail: bytes = b"") -> str | int | float | None:
    """Return the id of a message that cannot be parsed as a whole, None if it is not found.

    Args:
        head: The message's first bytes: read key by key until the id of the outermost object. A value that ends with
            them may have been cut off, so it is not taken.
        tail: Its last bytes: some clients write the id last.
    """
    found = _id_in_head(head)
    if found is None and (last := _ID_AT_END.search(tail)):
        found = last[1]
    if found is None:
        return None
    try:
        identity = json.loads(found.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except ValueError:
        return None
    return identity if _can_be_answered(identity) else None


def _id_in_head(head: bytes) -> bytes | None:
    """Return the text of the id's value: the token after ``"id":`` in the outermost object."""
    depth, before, at = 0, [b"", b""], 0
    if not head.lstrip().startswith(b"{"):
        return None
    while token := _TOKEN.search(head, at):
        if b'"' in head[at : token.start()]:
            return None  # text that does not end: from here on nothing is certain
        at, word = token.end(), token[0]
        if depth == 1 and before == [b'"id"', b":"]:
            return word if at < len(head) else None
        depth += (word in (b"{", b"[")) - (word in (b"}", b"]"))
        before = [before[1], word]
    return None


def _opened(line: bytes) -> int:
    return line.count(b"[") + line.count(b"{")


def _unchanged(value: Any) -> Any:
    return value


def _sorted_out(documents: list[Any], mend: Callable[[Any], Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    messages, errors = [], []
    for document in documents:
        message, problem = _checked(document)
        if message is not None:
            messages.append(mend(message))
        if problem is not None:
            errors.append(problem)
    return messages, errors


def _checked(document: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return one message as the SDK takes it, or an error that answers it, or neither."""
    if not isinstance(document, dict):
        return None, error(None, INVALID_REQUEST, f"a message must be a JSON object, got {_kind(document)}")
    identity, method = document.get("id"), document.get("method")
    if "method" not in document and ("result" in document or "error" in document):
        return _response(document), None
    if not isinstance(method, str):
        text = f"method must be text, got {_kind(method)}" if "method" in document else "method is missing"
        return None, error(identity, INVALID_REQUEST, text)
    if "id" in document and (not isinstance(identity, str | int) or isinstance(identity, bool)):
        return None, error(identity, INVALID_REQUEST, f"id must be text or a whole number, got {_kind(identity)}")
    problem = _problem(document, identity)
    if problem is not None:
        return None, problem if "id" in document else None
    message = {key: document[key] for key in ("jsonrpc", "id", "method", "params") if document.get(key) is not None}
    return message, None


def _problem(document: dict[str, Any], identity: Any) -> dict[str, Any] | None:
    if document.get("jsonrpc") != "2.0":
        return error(identity, INVALID_REQUEST, 'jsonrpc must be "2.0"')
    if isinstance(identity, str) and _SURROGATE.search(identity):
        return error(identity, INVALID_REQUEST, "id must be text without halves of characters (lone surrogates)")
    if not isinstance(document.get("params"), dict | None):
        return error(identity, INVALID_PARAMS, f"params must be an object, got {_kind(document['params'])}")
    return None


def _response(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return a response as the SDK takes it; None for a malformed one, as responses are never answered."""
    identity, problem = document.get("id"), document.get("error")
    if document.get("jsonrpc") != "2.0" or not isinstance(identity, str | int) or isinstance(identity, bool):
        return None
    if isinstance(document.get("result"), dict):
        return {"jsonrpc": "2.0", "id": identity, "result": document["result"]}
    if isinstance(problem, dict) and type(problem.get("code")) is int and isinstance(problem.get("message"), str):
        return {"jsonrpc": "2.0", "id": identity, "error": problem}
    return None


def _can_be_answered(identity: Any) -> bool:
    """Whether JSON-RPC knows such an id: text or a number."""
    if isinstance(identity, bool) or not isinstance(identity, str | int | float):
        return False
    return not isinstance(identity, float) or math.isfinite(identity)


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _shortly(problem: Exception) -> str:
    return "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)[:200]


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {str: "text", dict: "an object", list: "a list", float: "a number with a fraction"}.get(
        type(value), "a number"
    )
