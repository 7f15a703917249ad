"""JSON as clients write it (comments, trailing commas), read with the place of everything.

The grammar is RFC 8259 plus ``//`` and ``/* */`` comments wherever blanks may stand, and one comma before a closing
bracket: what VS Code and Zed take. Scalars are decoded by ``json``, so that their values are exactly its own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from mcp_server.clients.errors import Unparsable, place_of

_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"[^\s,:\[\]{}\"/]+")
MAX_DEPTH = 200
"""Nesting beyond which a file is refused; clients nest six deep."""


@dataclass(frozen=True, slots=True)
class Member:
    """A key of an object.

    Attributes:
        key: Decoded.
        start: Offset of the key's opening quote.
        node: Its value.
        comma: Offset after the comma that follows; -1 when none does.
    """

    key: str
    start: int
    node: Node
    comma: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last.
        value: As ``json.loads`` would give it.
        members: The keys of an object, in order; None for everything else.
    """

    start: int
    end: int
    value: Any
    members: tuple[Member, ...] | None = None

    def member(self, key: str) -> Member | None:
        """Return an object's member; the last one, as parsers do, when the key is there twice."""
        return next((each for each in reversed(self.members or ()) if each.key == key), None)


def parse(text: str) -> Node:
    """Read a whole document.

    Raises:
        Unparsable: It is no such document; says where.
    """
    node = _value(text, blank(text, 0), 0)
    rest = blank(text, node.end)
    if rest != len(text):
        raise _wrong(text, rest, "expected the end of the file")
    return node


def blank(text: str, at: int) -> int:
    """Return the offset after blanks and comments."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    first = text[at : at + 1]
    if depth > MAX_DEPTH:
        raise _wrong(text, at, f"nested more than {MAX_DEPTH} deep")
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _array(text, at, depth)
    if first == '"':
        value, end = _string(text, at)
        return Node(at, end, value)
    return _scalar(text, at)


def _object(text: str, start: int, depth: int) -> Node:
    members: list[Member] = []
    at = blank(text, start + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise _wrong(text, at, "expected a key in quotes or '}'")
        key, end = _string(text, at)
        colon = blank(text, end)
        if text[colon : colon + 1] != ":":
            raise _wrong(text, colon, f"expected ':' after the key {key!r}")
        node = _value(text, blank(text, colon + 1), depth + 1)
        after, comma = _comma(text, node.end, "}")
        members.append(Member(key, at, node, comma))
        at = after
    return Node(start, at + 1, {each.key: each.node.value for each in members}, tuple(members))


def _array(text: str, start: int, depth: int) -> Node:
    items: list[Any] = []
    at = blank(text, start + 1)
    while text[at : at + 1] != "]":
        node = _value(text, at, depth + 1)
        items.append(node.value)
        at, _ = _comma(text, node.end, "]")
    return Node(start, at + 1, items)


def _comma(text: str, at: int, closing: str) -> tuple[int, int]:
    """Pass a comma; return where the next item or the closing bracket is, and the offset after the comma or -1."""
    at = blank(text, at)
    if text[at : at + 1] == ",":
        return blank(text, at + 1), at + 1
    if text[at : at + 1] != closing:
        raise _wrong(text, at, f"expected ',' or {closing!r}")
    return at, -1


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    if not found:
        raise _wrong(text, at, "a string that does not end on its line")
    try:
        return json.loads(found[0]), found.end()
    except ValueError:
        raise _wrong(text, at, "a string with an escape that JSON does not know") from None


def _scalar(text: str, at: int) -> Node:
    found = _SCALAR.match(text, at)
    if not found:
        raise _wrong(text, at, "expected a value")
    try:
        return Node(at, found.end(), json.loads(found[0]))
    except ValueError:
        raise _wrong(text, at, "expected a value") from None


def _wrong(text: str, at: int, expected: str) -> Unparsable:
    met = f", but there is {text[at]!r}" if at < len(text) else ", but the file ends"
    return Unparsable(expected + (met if expected.startswith("expected") else ""), *place_of(text, at))
