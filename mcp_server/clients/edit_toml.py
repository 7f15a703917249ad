"""Changes one table of a TOML file by ``tomlkit``; a new table goes to the end of the file.

``tomllib`` reads: it is the stricter one, and the check of what ``tomlkit`` has written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.clients.edit_json import eol
from mcp_server.clients.entry import ClientError, Unparsable, at, place_of
from mcp_server.clients.line_patch import patched

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

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
    except RecursionError:
        raise Unparsable("nested too deep", 1, 1) from None


def put(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    """Set the keys of the table at a path of two keys; its other keys are kept.

    Raises:
        Unparsable: It is not TOML.
        ClientError: Something at the path is no table, or ``tomlkit`` cannot change it.
    """
    there = at(read(text), path)
    changed = {key: part for key, part in value.items() if not isinstance(there, dict) or there.get(key) != part}
    if there is None and not _inline(text, path[0]):
        return _append(text, path, value)

    def change(document: TOMLDocument) -> None:
        import tomlkit  # noqa: PLC0415

        servers: Any = document[path[0]]
        if there is None:
            servers[path[1]] = tomlkit.inline_table()
        for key, part in changed.items():
            servers[path[1]][key] = part

    return _edited(text, change)


def take(text: str, path: Sequence[str]) -> str:
    """Remove the table at a path of two keys, and the tables below it.

    Raises:
        Unparsable: It is not TOML.
        ClientError: ``tomlkit`` cannot change it.
    """
    if at(read(text), path) is None:
        return text

    def change(document: TOMLDocument) -> None:
        servers: Any = document[path[0]]
        del servers[path[1]]

    return _edited(text, change)


def _edited(text: str, change: Callable[[TOMLDocument], None]) -> str:
    import tomlkit  # noqa: PLC0415 - for this client only

    plain = text.replace("\r\n", "\n") + ("" if text.endswith("\n") else "\n")
    try:
        document = tomlkit.parse(plain)
        change(document)
        return patched(text, plain, tomlkit.dumps(document))
    except ClientError:
        raise
    except Exception as error:  # tomlkit ends in errors of any kind where tables are written in unusual ways
        raise ClientError(f"this program cannot change this file: {error or type(error).__name__}") from error


def _append(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    import tomlkit  # noqa: PLC0415

    new = eol(text)
    table = tomlkit.dumps({path[0]: {path[1]: value}}).replace("\n", new)
    if not text:
        return table
    if not text.endswith("\n"):  # the file keeps its lack of a last line ending
        return text + new + new + table.removesuffix(new)
    return text + new + table


def _inline(text: str, key: str) -> bool:
    """Whether the servers stand in a table that is written in one line: a header could not add to it."""
    import tomlkit  # noqa: PLC0415

    return key in read(text) and isinstance(tomlkit.parse(text).get(key), tomlkit.items.InlineTable)
