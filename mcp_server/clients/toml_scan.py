"""Where the headers and the pairs of a TOML document stand. For documents that ``tomllib`` has accepted."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_QUOTED = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'", re.DOTALL
)
_BARE = re.compile(r"[^\s,\[\]{}#][^\n,\]}#]*")


@dataclass(frozen=True, slots=True)
class Item:
    """A header, or a key with its value.

    Attributes:
        table: Path of the table it stands in; of a header, its own.
        key: Path of the key below the table; empty for a header.
        start: Offset of its first character.
        value: Offset of the value; of a header, of its end.
        end: Offset after it.
    """

    table: tuple[str, ...]
    key: tuple[str, ...]
    start: int
    value: int
    end: int


def items(text: str) -> list[Item]:
    """Return every header and pair of the top level, in order."""
    found: list[Item] = []
    table: tuple[str, ...] = ()
    at = _gap(text, 0)
    while at < len(text):
        if text[at] == "[":
            double = text[at : at + 2] == "[["
            inner = at + (2 if double else 1)
            close = _until(text, inner, "]")
            end = close + (2 if double else 1)
            table = _path(text[inner:close])
            found.append(Item(table, (), at, end, end))
        else:
            equals = _until(text, at, "=")
            value = _gap(text, equals + 1)
            end = _value_end(text, value)
            found.append(Item(table, _path(text[at:equals]), at, value, end))
        at = _gap(text, end)
    return found


def line_end(text: str, at: int) -> int:
    """Return the offset after the line of an offset, its ending included."""
    newline = text.find("\n", at)
    return len(text) if newline < 0 else newline + 1


def _gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _until(text: str, at: int, wanted: str) -> int:
    """Return the offset of a character outside quotes."""
    while text[at] != wanted:
        quoted = _QUOTED.match(text, at)
        at = quoted.end() if quoted else at + 1
    return at


def _path(key: str) -> tuple[str, ...]:
    """Return the parts of a dotted key."""
    node: object = tomllib.loads(f"{key.strip()} = 0")
    parts = []
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)


def _value_end(text: str, at: int) -> int:
    quoted = _QUOTED.match(text, at)
    if quoted:
        return quoted.end()
    if text[at] not in "[{":
        bare = _BARE.match(text, at)
        return at + len(bare[0].rstrip()) if bare else at + 1
    closing = "]" if text[at] == "[" else "}"
    at = _gap(text, at + 1)
    while text[at] != closing:
        quoted = _QUOTED.match(text, at)
        if quoted:
            at = quoted.end()
        elif text[at] in "[{":
            at = _value_end(text, at)
        else:
            at += 1
        at = _gap(text, at)
    return at + 1
