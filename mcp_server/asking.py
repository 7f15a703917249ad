"""From what a caller says (query, folders, path, date) to what the engine understands."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from urllib.parse import unquote_to_bytes, urlsplit

from indexer.errors import QueryError
from indexer.types import MAX_QUERY


def cut_query(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the part of a query that is used, and a notice if that is not all of it.

    Raises:
        QueryError: There is nothing to look for.
    """
    if not text.strip():
        raise QueryError("query is empty; say what to look for, in words or as a question")
    if len(text) <= MAX_QUERY:
        return text, ()
    note = f"The query has {len(text):,} characters; only the first {MAX_QUERY:,} were used. Ask for less at a time."
    return text[:MAX_QUERY], (note,)


def file_path(text: str) -> str:
    """Return the path that ``text`` names: a ``file://`` address, a path with ``~``, or a path as it is.

    Raises:
        QueryError: The address is not of a local file.
    """
    if text.startswith("file:"):
        address = urlsplit(text)
        if address.netloc not in ("", "localhost"):
            raise QueryError(f"path {text[:200]!r} is on another machine; only local files are indexed")
        # A name may hold "?" and "#", which an address written by hand leaves bare.
        tail = text[len("file:") :].removeprefix(f"//{address.netloc}")
        return os.fsdecode(unquote_to_bytes(tail))
    return os.path.expanduser(text)


def roots_of(names: Sequence[str], roots: Sequence[str]) -> tuple[str, ...]:
    """Return the known roots that a caller's folder names mean.

    A name is a root's path (``~`` and ``file://`` are understood), or the last part of exactly one root.

    Raises:
        QueryError: A name fits no root, or more than one; says what would do.
    """
    return tuple(dict.fromkeys(_root_of(name, roots) for name in names))


def _root_of(name: str, roots: Sequence[str]) -> str:
    path = os.path.normpath(file_path(name))
    real = os.path.realpath(path)
    for root in roots:
        if root in (path, real):
            return root
    named = [root for root in roots if PurePath(root).name.lower() == path.lower()]
    if len(named) == 1:
        return named[0]
    for root in roots:
        if PurePath(real).is_relative_to(root):
            inner = PurePath(real).relative_to(root).as_posix()
            raise QueryError(
                f"folder {name[:200]!r} is a part of the indexed folder {root}; "
                f'use folders=["{root}"] and path_glob="{inner}/**"'
            )
    known = ", ".join(roots[:10]) + (", ..." if len(roots) > 10 else "")
    near = difflib.get_close_matches(path, roots, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise QueryError(
        f"folder {name[:200]!r} is not indexed; {hint}"
        + (f"indexed folders: {known}" if known else "no folder is indexed: run `folder-mcp folders add FOLDER`")
    )


def moment(text: str) -> float:
    """Return a date or time (ISO 8601, local when it has no zone) as seconds since the epoch.

    Raises:
        QueryError: It is neither.
    """
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise QueryError(
            f"modified_after {text[:60]!r} is not a date; write it like 2026-11-01 or 2026-11-01T09:00+01:00"
        ) from None
