"""A scope as the SQL filter of a query. Values enter through the library's expressions, patterns as quoted text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from indexer.errors import QueryError
from indexer.store.paths import escape
from indexer.types import Scope

_MAX_GLOB = 1000
_ONE = "(?:\\x{0}[0-9a-f]{4}|[^/])"  # one character of a name, as ``paths.escape`` writes it


def one_of(column: str, values: Sequence[str]) -> str:
    """SQL for "the column is one of these values" (none: matches nothing)."""
    return _column(column).isin(list(values)).to_sql() if values else "false"


def equals(column: str, value: str) -> str:
    """SQL for "the column is this value"."""
    return str((_column(column) == value).to_sql())


def both(*conditions: str | None) -> str | None:
    """All the conditions that are there, or None."""
    there = [f"({condition})" for condition in conditions if condition]
    return " AND ".join(there) if there else None


def scope_filter(scope: Scope) -> str | None:
    """SQL for glob and suffixes; folders and ``modified_after`` depend on what the tables hold (see ``queries``).

    Raises:
        QueryError: The glob is malformed.
    """
    glob = name_filter(scope.path_glob) if scope.path_glob is not None else None
    return both(glob, None if scope.suffixes is None else suffix_filter(scope.suffixes))


def suffix_filter(suffixes: Sequence[str]) -> str:
    """SQL for "the file's name ends in one of these suffixes, in any case" (none: matches nothing)."""
    if not suffixes:
        return "false"
    ends = "|".join("".join(map(_literal, escape(suffix.lower()))) for suffix in suffixes)
    return f"regexp_like(lower(name), '\\.(?:{ends})$')"


def name_filter(glob: str) -> str:
    """SQL for "the path below its folder matches the glob".

    Raises:
        QueryError: The glob is malformed.
    """
    pattern = glob_regex(glob).replace("'", "''")
    return f"regexp_like(name, '{pattern}')"


def glob_regex(glob: str) -> str:
    """A glob in the regular expressions of the storage library (Rust's).

    ``*`` and ``?`` stay within a part, ``**`` crosses parts, ``[abc]`` and ``[!a-z]`` are classes, ``{md,txt}`` are
    alternatives. A pattern without a slash matches the file name anywhere, one with a slash the whole path below
    the folder; a trailing slash means everything inside.

    Raises:
        QueryError: A bracket or brace is not closed, or the glob is longer than 1,000 characters.
    """
    if len(glob) > _MAX_GLOB:
        raise QueryError(f"path_glob is {len(glob)} characters long; {_MAX_GLOB} are the limit")
    text = escape(glob.replace("\\", "/").removeprefix("./"))
    if text.endswith("/"):
        text += "**"
    anywhere = "/" not in text
    parts, at = [], 0
    depth = 0
    text = text.removeprefix("/")
    while at < len(text):
        piece, at, depth = _piece(text, at, depth, glob)
        parts.append(piece)
    if depth:
        raise QueryError(f"path_glob {glob!r} opens a brace that it does not close")
    return f"(?s)^{'(?:.*/)?' if anywhere else ''}{''.join(parts)}$"


def _piece(text: str, at: int, depth: int, glob: str) -> tuple[str, int, int]:
    """Translate what stands at ``at``; returns its regex, the next place and the depth of braces."""
    char = text[at]
    if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
        return "(?:.*/)?", at + 3, depth
    if text.startswith("**", at):
        return ".*", at + 2, depth
    if char == "*":
        return "[^/]*", at + 1, depth
    if char == "?":
        return _ONE, at + 1, depth
    if char == "[":
        end = text.find("]", at + 2)
        if end < 0:
            raise QueryError(f"path_glob {glob!r} opens a bracket that it does not close; write [[] for the character")
        return _class(text[at + 1 : end]), end + 1, depth
    if char == "{":
        return "(?:", at + 1, depth + 1
    if char == "}" and depth:
        return ")", at + 1, depth - 1
    if char == "," and depth:
        return "|", at + 1, depth
    return _literal(char), at + 1, depth


def _class(inside: str) -> str:
    negated = inside[0] in "!^"
    inside = inside[1:] if negated else inside
    out = re.sub(r"(?s)(.)-(.)|(.)", lambda m: _literal(m[3]) if m[3] else _range(m[1], m[2]), inside)
    return f"[^/{out}]" if negated else f"[{out}]"


def _range(low: str, high: str) -> str:
    return f"{_literal(min(low, high))}-{_literal(max(low, high))}"


def _literal(char: str) -> str:
    """A character that means itself, in a class too; written as its number unless it is a letter or digit."""
    return char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):x}}}"


def _column(name: str) -> Any:
    from lancedb.expr import col  # noqa: PLC0415

    return col(name)
