"""Changes one table of a TOML file and not a byte besides: a new table goes to the end of the file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from mcp_server.clients.document import at
from mcp_server.clients.errors import ClientError, Unparsable, place_of
from mcp_server.clients.jsonc import eol
from mcp_server.clients.toml_scan import Item, items, line_end

_AT = re.compile(r"\(at line (\d+), column (\d+)\)")


def read(text: str) -> dict[str, Any]:
    """Return the document.

    Raises:
        Unparsable: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else place_of(text, len(text))
        raise Unparsable(_AT.sub("", str(error)).strip(), line, column) from None


def put(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    """Set the keys of the table at a path; its other keys are kept.

    Raises:
        Unparsable: It is not TOML.
        ClientError: The table is written in one line, as a value of another.
    """
    there = at(read(text), path)
    if there is None:
        return _append(text, path, value)
    header = _header(text, path)
    if not header and any(there.get(key) != part for key, part in value.items()):
        raise ClientError(f"[{'.'.join(path)}] is not a table of its own; write it as one, or remove it")
    for key, part in value.items():
        if there.get(key) != part:
            text = _set(text, path, key, part)
    return text


def take(text: str, path: Sequence[str]) -> str:
    """Remove the table at a path and the tables below it.

    Raises:
        Unparsable: It is not TOML.
        ClientError: The table is written in one line, as a value of another.
    """
    there = at(read(text), path)
    if there is None:
        return text
    if not _header(text, path):
        raise ClientError(f"[{'.'.join(path)}] is not a table of its own; remove it by hand")
    for begin, end in reversed(_spans(text, tuple(path))):
        text = _cut(text, begin, end)
    return text


def _append(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    new = eol(text)
    lines = [f"[{'.'.join(path)}]", *(f"{key} = {_rendered(part)}" for key, part in value.items())]
    if not text:
        return new.join(lines) + new
    if not text.endswith("\n"):  # the file keeps its lack of a last line ending
        return text + new + new + new.join(lines)
    return text + new + new.join(lines) + new


def _set(text: str, path: Sequence[str], key: str, value: Any) -> str:
    header = _header(text, path)
    if header is None:
        raise ClientError(f"[{'.'.join(path)}] is not a table of its own; write it as one, or remove it")
    pair = next((each for each in items(text) if each.table == header.table and each.key == (key,)), None)
    if pair:
        return text[: pair.value] + _rendered(value) + text[pair.end :]
    after = line_end(text, header.end)
    missing = "" if text[:after].endswith("\n") else eol(text)
    return text[:after] + missing + f"{key} = {_rendered(value)}" + eol(text) + text[after:]


def _header(text: str, path: Sequence[str]) -> Item | None:
    return next((each for each in items(text) if not each.key and each.table == tuple(path)), None)


def _spans(text: str, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the lines of a table and of the tables below it, without the comments that follow."""
    spans: list[tuple[int, int]] = []
    for each in items(text):
        if each.table[: len(path)] != path:
            continue
        if each.key:
            spans[-1] = (spans[-1][0], line_end(text, each.end))
        else:
            spans.append((text.rfind("\n", 0, each.start) + 1, line_end(text, each.end)))
    return spans


def _cut(text: str, begin: int, end: int) -> str:
    """Remove a span, with the blank line before it."""
    new = eol(text)
    before, after = text[:begin], text[end:]
    if before.endswith(new + new) or before == new:
        before = before[: -len(new)]
        if not after and not text.endswith("\n"):
            before = before[: -len(new)]
    return before + after


def _rendered(value: Any) -> str:
    """Return a string, number, truth value or list of strings. A JSON string is a TOML string, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
