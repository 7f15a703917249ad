"""Edits one table of a TOML file with ``tomlkit``; a new table goes to the end of the file.

``tomllib`` reads: it is the stricter parser, and checks what ``tomlkit`` has written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import tomlkit

from mcp_server.clients.edit_json import line_ending
from mcp_server.clients.entry import ClientError, Unparsable, line_and_column, value_at
from mcp_server.clients.line_patch import patch

_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")


def load(text: str) -> dict[str, Any]:
    """Return the document.

    Raises:
        Unparsable: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else line_and_column(text, len(text))
        raise Unparsable(_POSITION.sub("", str(error)).strip(), line, column) from None
    except RecursionError:
        raise Unparsable("nested too deep", 1, 1) from None


def set_value(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    """Set the keys of the table at a path of two keys; its other keys are kept.

    Raises:
        Unparsable: It is not TOML.
        ClientError: Something at the path is no table, or ``tomlkit`` cannot change it.
    """
    existing = value_at(load(text), path)
    changed = {key: part for key, part in value.items() if not isinstance(existing, dict) or existing.get(key) != part}
    if existing is None and not _is_inline(text, path[0]):
        return _append(text, path, value)

    def change(document: tomlkit.TOMLDocument) -> None:
        servers: Any = document[path[0]]
        if existing is None:
            servers[path[1]] = tomlkit.inline_table()
        for key, part in changed.items():
            servers[path[1]][key] = part

    return _edited(text, change)


def remove_value(text: str, path: Sequence[str]) -> str:
    """Remove the table at a path of two keys, and the tables below it.

    Raises:
        Unparsable: It is not TOML.
        ClientError: ``tomlkit`` cannot change it.
    """
    if value_at(load(text), path) is None:
        return text

    def change(document: tomlkit.TOMLDocument) -> None:
        servers: Any = document[path[0]]
        del servers[path[1]]

    return _edited(text, change)


def _edited(text: str, change: Callable[[tomlkit.TOMLDocument], None]) -> str:
    normalized = text.replace("\r\n", "\n") + ("" if text.endswith("\n") else "\n")
    try:
        document = tomlkit.parse(normalized)
        change(document)
        return patch(text, normalized, tomlkit.dumps(document))
    except ClientError:
        raise
    except Exception as error:  # tomlkit raises errors of any kind where tables are written in unusual ways
        raise ClientError(f"this program cannot change this file: {error or type(error).__name__}") from error


def _append(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    newline = line_ending(text)
    table = tomlkit.dumps({path[0]: {path[1]: value}}).replace("\n", newline)
    if not text:
        return table
    if not text.endswith("\n"):  # the file keeps its lack of a last line ending
        return text + newline + newline + table.removesuffix(newline)
    return text + newline + table


def _is_inline(text: str, key: str) -> bool:
    """Whether the servers are in an inline table, to which a header could not add."""
    return key in load(text) and isinstance(tomlkit.parse(text).get(key), tomlkit.items.InlineTable)
