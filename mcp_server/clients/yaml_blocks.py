"""Changes one block of a YAML file and not a byte besides: PyYAML says where things stand, the text is ours to cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.clients.errors import ClientError, Unparsable, place_of
from mcp_server.clients.jsonc import eol
from mcp_server.clients.toml_scan import line_end

if TYPE_CHECKING:
    import yaml

STEP = "  "


def read(text: str) -> Any:
    """Return the document; an empty one when there is none.

    Raises:
        Unparsable: It is not one YAML document of plain values.
    """
    import yaml  # noqa: PLC0415 - for this client only

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong(text, error) from None
    return {} if found is None else found


def put(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    """Set the keys of the block at a path of two keys; its other keys are kept.

    Raises:
        Unparsable: It is not one YAML document of plain values.
        ClientError: The block, or one around it, is written in brackets, or is none.
    """
    outer, name = path
    there = read(text)
    root = _compose(text)
    if root is None:
        return _ended(text) + _block(eol(text), "", outer, {name: value})
    _must_be_block(text, root, "the document")
    found = _pair(text, root, outer)
    if found is None:
        return _ended(text) + _block(eol(text), "", outer, {name: value})
    key, container = found
    if not there[outer]:
        return _fill(text, key, container, {name: value})
    _must_be_block(text, container, outer)
    entry = _pair(text, container, name)
    if entry is None:
        lead = " " * container.value[0][0].start_mark.column
        return _after_line(text, key.end_mark.index, _block(eol(text), lead, name, value))
    _must_be_block(text, entry[1], name)
    for each, part in value.items():
        if there[outer][name].get(each) != part:
            text = _set(text, path, each, part)
    return text


def take(text: str, path: Sequence[str]) -> str:
    """Remove the block at a path of two keys.

    Raises:
        Unparsable: It is not one YAML document of plain values.
        ClientError: The block, or the one around it, is written in brackets.
    """
    outer, name = path
    there = read(text)
    if not isinstance(there, dict) or name not in (there.get(outer) or {}):
        return text
    key, container, entry_key, entry = _entry(text, path)
    begin = text.rfind("\n", 0, entry_key.start_mark.index) + 1
    rest = text[:begin] + text[line_end(text, _end(text, entry)) :]
    if len(container.value) == 1:
        colon = rest.index(":", key.end_mark.index) + 1
        rest = rest[:colon] + " {}" + rest[colon:]
    return rest


def _set(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Set one key of a block that is there."""
    _, _, entry_key, entry = _entry(text, path)
    found = _pair(text, entry, key)
    lead = " " * entry.value[0][0].start_mark.column
    if found is None:
        return _after_line(text, entry_key.end_mark.index, f"{lead}{key}: {_rendered(value)}{eol(text)}")
    return text[: found[0].start_mark.index] + f"{key}: {_rendered(value)}" + text[_end(text, found[1]) :]


def _entry(text: str, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node, yaml.Node, yaml.Node]:
    root = _compose(text)
    container = _pair(text, root, path[0]) if root else None
    entry = _pair(text, container[1], path[1]) if container else None
    if container is None or entry is None:
        raise ClientError(f"there is no {'.'.join(path)}")
    _must_be_block(text, container[1], path[0])
    _must_be_block(text, entry[1], path[1])
    return (*container, *entry)


def _compose(text: str) -> yaml.Node | None:
    import yaml  # noqa: PLC0415

    return yaml.compose(text, Loader=yaml.SafeLoader)


def _pair(text: str, node: yaml.Node, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    found: list[tuple[yaml.Node, yaml.Node]] = [pair for pair in node.value if pair[0].value == key]
    if len(found) > 1:
        raise Unparsable(f"the key {key!r} is there twice; keep one of them", *_at(found[-1][0]))
    return found[0] if found else None


def _must_be_block(text: str, node: yaml.Node, what: str) -> None:
    line, column = _at(node)
    if node.id != "mapping":
        raise ClientError(f"line {line}, column {column}: {what} is not a mapping of keys to values")
    if node.flow_style:
        raise ClientError(f"line {line}, column {column}: {what} is written in braces; write it a key a line")


def _fill(text: str, key: yaml.Node, container: yaml.Node, value: dict[str, Any]) -> str:
    """Put a first block where the value is empty: nothing, null or {}."""
    colon = text.index(":", key.end_mark.index) + 1
    if container.end_mark.index > container.start_mark.index:
        text = text[:colon] + text[container.end_mark.index :]
    lead = " " * key.start_mark.column + STEP
    return _after_line(text, colon, "".join(_block(eol(text), lead, name, each) for name, each in value.items()))


def _after_line(text: str, at: int, lines: str) -> str:
    after = line_end(text, at)
    return _ended(text[:after]) + lines + text[after:]


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + eol(text)


def _block(new: str, lead: str, key: str, value: dict[str, Any]) -> str:
    lines = f"{lead}{key}:{new}"
    for each, part in value.items():
        nested = isinstance(part, dict) and part
        lines += _block(new, lead + STEP, each, part) if nested else f"{lead}{STEP}{each}: {_rendered(part)}{new}"
    return lines


def _end(text: str, node: yaml.Node) -> int:
    """Return the offset after a node's last character; PyYAML's own mark of a block is where the next thing begins."""
    if node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _rendered(value: Any) -> str:
    """Return a value in one line: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _at(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _wrong(text: str, error: yaml.YAMLError) -> Unparsable:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return Unparsable(getattr(error, "problem", "") or "not YAML", mark.line + 1, mark.column + 1)
    return Unparsable("a character that YAML does not know", *place_of(text, getattr(error, "position", 0)))
