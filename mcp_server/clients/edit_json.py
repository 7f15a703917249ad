"""Edits one entry of a JSON file with comments, and changes no other byte.

A new key goes to the front of its object: there it is one contiguous span of text with its comma, so that no other
line changes, whatever comments and trailing commas follow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcp_server.clients.entry import ClientError, Unparsable, line_and_column

_SAME_LINE = re.compile(r"[ \t]*(?://[^\r\n]*|/\*(?:(?!\*/)[^\r\n])*\*/[ \t]*)(?=\r?\n)")
"""A comment at the end of a line: it belongs to the text before it."""
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)

_REST = re.compile(r"[ \t]*(?:\r?\n|\Z)")
"""Nothing more on this line."""


def load(text: str) -> Any:
    """Return the document; an empty object when there are only blanks and comments.

    Raises:
        Unparsable: It is not JSON with comments.
    """
    return {} if _is_empty(text) else parse(text).value


def set_value(text: str, path: Sequence[str], value: Any) -> str:
    """Set the value at a path of keys, creating missing objects on the way.

    Args:
        text: The document; may be empty.
        path: Keys from the root; at least one.
        value: JSON. The other keys of an existing object are kept.

    Raises:
        Unparsable: It is not JSON with comments.
        ClientError: A value on the way is no object.
    """
    if _is_empty(text):
        document = json.dumps(_nested(path, value), indent=2, ensure_ascii=False).replace("\n", line_ending(text))
        return text + ("" if not text or text.endswith("\n") else line_ending(text)) + document + line_ending(text)
    node = parse(text)
    for depth, key in enumerate(path):
        _check_is_object(text, node, path[:depth])
        member = _unique_member(text, node, key)
        if member is None:
            return _insert(text, node, key, _nested(path[depth + 1 :], value))
        node = member.node
    if isinstance(value, dict) and node.members is not None:
        for key, part in value.items():
            text = set_value(text, [*path, key], part)
        return text
    if node.value == value and type(node.value) is type(value):
        return text
    lead = _indent(text, node.start)
    return (
        text[: node.start] + _rendered(value, text, lead, _unit(text, node), multiline="\n" in text) + text[node.end :]
    )


def remove_value(text: str, path: Sequence[str]) -> str:
    """Remove the key at a path; the objects around it stay.

    Raises:
        Unparsable: It is not JSON with comments.
    """
    if _is_empty(text):
        return text
    node = parse(text)
    for key in path[:-1]:
        member = node.member(key)
        if member is None:
            return text
        node = member.node
    member = node.member(path[-1])
    return text if member is None else _remove(text, node, member)


def line_ending(text: str) -> str:
    """Return the line ending of a text: that of its first line."""
    return "\r\n" if re.match(r"[^\n]*\r\n", text) else "\n"


def _is_empty(text: str) -> bool:
    return skip_blanks(text, 0) == len(text)


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _check_is_object(text: str, node: Node, path: Sequence[str]) -> None:
    if node.members is None:
        line, column = line_and_column(text, node.start)
        what = f'"{".".join(path)}"' if path else "the document"
        raise ClientError(f"line {line}, column {column}: {what} is not an object; make it {{}}")


def _unique_member(text: str, node: Node, key: str) -> Member | None:
    found = [each for each in node.members or () if each.key == key]
    if len(found) > 1:
        raise Unparsable(f"the key {key!r} is there twice; keep one of them", *line_and_column(text, found[-1].start))
    return found[0] if found else None


def _insert(text: str, node: Node, key: str, value: Any) -> str:
    """Put a key at the front of an object."""
    inside = text[node.start + 1 : node.end - 1]
    kept = _SAME_LINE.match(inside)
    point = node.start + 1 + (kept.end() if kept else 0)
    name = json.dumps(key, ensure_ascii=False)
    if node.members:
        first = node.members[0]
        gap = text[node.start + 1 : first.start]
        if "\n" not in gap:
            space = gap[: len(gap) - len(gap.lstrip())]
            return text[:point] + f"{space}{name}: {_one_line(value)}," + text[point:]
        lead = _indent(text, first.start)
        member = f"{name}: {_rendered(value, text, lead, _unit(text, node))},"
        return text[:point] + line_ending(text) + lead + member + text[point:]
    if "\n" not in text.strip():
        return text[:point] + f"{name}: {_one_line(value)}" + text[point if inside.strip() else node.end - 1 :]
    outer, unit = _indent(text, node.start), _unit(text, node)
    member = f"{name}: {_rendered(value, text, outer + unit, unit)}"
    if not inside.strip() and "\n" not in inside:
        return (
            text[:point] + line_ending(text) + outer + unit + member + line_ending(text) + outer + text[node.end - 1 :]
        )
    closing = "" if "\n" in text[point : node.end - 1] else line_ending(text) + outer
    return text[:point] + line_ending(text) + outer + unit + member + closing + text[point:]


def _remove(text: str, node: Node, member: Member) -> str:
    members = node.members or ()
    index = members.index(member)
    before = members[index - 1] if index else None
    separator = before.comma if before else node.start + 1
    kept = _SAME_LINE.match(text, separator)
    region_start = kept.end() if kept else separator
    begin = _begin(text, region_start, member.start)
    end = member.comma if member.comma >= 0 else member.node.end
    if _REST.match(text, end) is None and _in_line_comment(text[separator:begin]):
        begin = text.index("\n", begin) + 1  # the following text must not become part of the comment
    if len(members) == 1 and not (text[node.start + 1 : begin] + text[end : node.end - 1]).strip():
        return text[: node.start + 1] + text[node.end - 1 :]
    if before and member.comma < 0:  # the last member has no comma: remove the one of the member before
        return text[: before.comma - 1] + text[before.comma : begin] + text[end:]
    return text[:begin] + text[end:]


def _in_line_comment(region: str) -> bool:
    comments = list(_COMMENT.finditer(region))
    return bool(comments) and comments[-1].end() == len(region) and comments[-1][0].startswith("//")


def _begin(text: str, start: int, key: int) -> int:
    """Return where a member's own text begins: at the end of the line before it, or after the last comment."""
    region = text[start:key]
    comments = list(_COMMENT.finditer(region))
    after = comments[-1].end() if comments else 0
    newline = region.find("\n", after)
    if newline < 0:
        return start + after
    return start + newline - (1 if region[newline - 1 : newline] == "\r" else 0)


def _indent(text: str, offset: int) -> str:
    """Return the blanks at the beginning of the line of an offset."""
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str, node: Node) -> str:
    """Return one step of the document's indentation: from this object, or from the first that shows one."""
    for members, start in _objects(node) + _objects(parse(text)):
        if "\n" in text[start : members[0].start]:
            outer, inner = _indent(text, start), _indent(text, members[0].start)
            if inner.startswith(outer) and len(inner) > len(outer):
                return inner[len(outer) :]
    return "  "


def _objects(node: Node) -> list[tuple[tuple[Member, ...], int]]:
    """Every object with members below a value, outermost first, with where it starts."""
    found = [(node.members, node.start)] if node.members else []
    for member in node.members or ():
        found += _objects(member.node)
    return found


def _rendered(value: Any, text: str, lead: str, unit: str, *, multiline: bool = True) -> str:
    if not multiline:
        return _one_line(value)
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", line_ending(text) + lead)


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# The parser ---------------------------------------------------------------------------------------------------------
# Reads a document with the offsets of all its values. The grammar is RFC 8259 plus ``//`` and ``/* */`` comments
# wherever blanks may be, and one comma before a closing bracket: what VS Code and Zed accept. Scalars are decoded by
# ``json``, so that their values are the same.

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
    """A value and its offsets.

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
    """Parse a whole document.

    Raises:
        Unparsable: It is not JSON with comments; says where.
    """
    node = _value(text, skip_blanks(text, 0), 0)
    rest = skip_blanks(text, node.end)
    if rest != len(text):
        raise _wrong(text, rest, "expected the end of the file")
    return node


def skip_blanks(text: str, at: int) -> int:
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
    at = skip_blanks(text, start + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise _wrong(text, at, "expected a key in quotes or '}'")
        key, end = _string(text, at)
        colon = skip_blanks(text, end)
        if text[colon : colon + 1] != ":":
            raise _wrong(text, colon, f"expected ':' after the key {key!r}")
        node = _value(text, skip_blanks(text, colon + 1), depth + 1)
        after, comma = _comma(text, node.end, "}")
        members.append(Member(key, at, node, comma))
        at = after
    return Node(start, at + 1, {each.key: each.node.value for each in members}, tuple(members))


def _array(text: str, start: int, depth: int) -> Node:
    items: list[Any] = []
    at = skip_blanks(text, start + 1)
    while text[at : at + 1] != "]":
        node = _value(text, at, depth + 1)
        items.append(node.value)
        at, _ = _comma(text, node.end, "]")
    return Node(start, at + 1, items)


def _comma(text: str, at: int, closing: str) -> tuple[int, int]:
    """Skip a comma; return the offset of the next item or closing bracket, and the offset after the comma or -1."""
    at = skip_blanks(text, at)
    if text[at : at + 1] == ",":
        return skip_blanks(text, at + 1), at + 1
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
    return Unparsable(expected + (met if expected.startswith("expected") else ""), *line_and_column(text, at))
