"""One table of the database: reading and writing rows, filters as SQL, fragmentation and statistics."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lancedb.expr import col

from indexer.errors import QueryError
from indexer.store.health import store_errors
from indexer.store.schema import IndexStatistics, TableStatistics, escape, relative_name
from indexer.types import Scope

_VALUES = 2000  # of one IN list; 2,000 ids at 100,000 rows take 35 ms


async def select(table: Any, columns: Sequence[str], where: str | None = None, limit: int | None = None) -> Any:
    """Rows as an Arrow table; without a limit, all that match.

    Raises:
        StoreError: The index cannot be read.
    """
    query = table.query().select(list(columns))
    if where is not None:
        query = query.where(where)
    if limit is not None:
        query = query.limit(limit)
    with store_errors("read the index"):
        return await query.to_arrow()


async def select_by_values(
    table: Any, column: str, values: Sequence[str], columns: Sequence[str], also: str | None = None
) -> Any:
    """Rows whose indexed column has one of the values, as an Arrow table.

    Raises:
        StoreError: The index cannot be read.
    """
    slices = [values[at : at + _VALUES] for at in range(0, len(values), _VALUES)] or [[]]
    found = [await select(table, columns, all_of(one_of(column, part), also)) for part in slices]
    return pa.concat_tables(found) if len(found) > 1 else found[0]


async def append(table: Any, rows: Any) -> None:
    """Add rows in one commit.

    Raises:
        StoreError: Nothing was written.
    """
    with store_errors("write to the index"):
        await table.add(rows)


async def upsert(table: Any, rows: Any, *, insert: bool = True) -> None:
    """Replace rows by ``chunk_id`` in one commit, adding those that are new unless told not to.

    Raises:
        StoreError: Nothing was written.
    """
    merge = table.merge_insert("chunk_id").when_matched_update_all()
    if insert:
        merge = merge.when_not_matched_insert_all()
    with store_errors("write to the index"):
        await merge.execute(rows)


async def delete(table: Any, where: str) -> None:
    """Delete rows in one commit.

    Raises:
        StoreError: Nothing was deleted.
    """
    with store_errors("delete from the index"):
        await table.delete(where)


# Filters ------------------------------------------------------------------------------------------------------------
# SQL conditions. Values enter through the library's expressions, patterns as quoted text.

_MAX_GLOB = 1000
_START = "(?s)^"
_MAX_BRACES = 50  # within each other; the regular expressions of the storage library nest 250 deep at most
_WILDCARD = re.compile(r"[*?\[{]")
_ANY_CHARACTER = "(?:\\x{0}[0-9a-f]{4}|[^/])"  # one character of a name, as ``escape`` writes it


def one_of(column: str, values: Sequence[str]) -> str:
    """SQL for "the column is one of these values" (none: matches nothing)."""
    return _column(column).isin(list(values)).to_sql() if values else "false"


def equals(column: str, value: str) -> str:
    """SQL for "the column is this value"."""
    return str((_column(column) == value).to_sql())


def all_of(*conditions: str | None) -> str | None:
    """SQL for "all the conditions that are not None hold"; None if there is none."""
    given = [f"({condition})" for condition in conditions if condition]
    return " AND ".join(given) if given else None


def scope_filter(scope: Scope) -> str | None:
    """SQL for glob, parts and suffixes; folders and ``modified_after`` depend on the tables (see ``queries``).

    Raises:
        QueryError: The glob is malformed.
    """
    suffixes = None if scope.suffixes is None else suffix_filter(scope.suffixes)
    if scope.parts is None:
        glob = name_filter(scope.path_glob) if scope.path_glob is not None else None
    else:
        glob = " OR ".join(f"({part_filter(*part, scope.path_glob)})" for part in scope.parts) or "false"
    return all_of(glob, suffixes)


def part_filter(folder: str, below: str, glob: str | None = None) -> str:
    """SQL for "the file is in this part of this folder, and its path below the part matches the glob".

    Args:
        folder: The root.
        below: Path of the part below it; empty for all of the folder.
        glob: None for every file.

    Raises:
        QueryError: The glob is malformed.
    """
    begins = "".join(map(_literal, escape(relative_name(folder, os.path.join(folder, below)) + "/"))) if below else ""
    inside = f"regexp_like(name, '{_START}{begins}')" if begins else None
    return str(all_of(equals("folder", escape(folder)), inside, None if glob is None else name_filter(glob, begins)))


def suffix_filter(suffixes: Sequence[str]) -> str:
    """SQL for "the file's name ends in one of these suffixes, in any case" (none: matches nothing)."""
    if not suffixes:
        return "false"
    ends = "|".join("".join(map(_literal, escape(suffix.lower()))) for suffix in suffixes)
    return f"regexp_like(lower(name), '\\.(?:{ends})$')"


def name_filter(glob: str, begins: str = "") -> str:
    """SQL for "the path below its folder matches the glob".

    Args:
        glob: The glob.
        begins: Regular expression of a part of the folder, in any case; the glob then begins below it.

    Raises:
        QueryError: The glob is malformed.
    """
    pattern = glob_regex(glob).replace(_START, f"{_START}(?i:{begins})" if begins else _START, 1).replace("'", "''")
    return f"regexp_like(lower(name), '{pattern}')"  # a flag instead costs seconds for classes of many characters


def glob_regex(glob: str) -> str:
    """A glob in the regular expressions of the storage library (Rust's).

    ``*`` and ``?`` stay within a part, ``**`` crosses parts, ``[abc]`` and ``[!a-z]`` are classes, ``{md,txt}`` are
    alternatives, and letter case does not matter. A pattern without a slash matches the file name anywhere, one with
    a slash the whole path below the folder; a trailing slash means everything inside. So does a last part without
    wildcards, which may be the name of a file or of a directory.

    Raises:
        QueryError: A bracket or brace is not closed, or the glob is longer than 1,000 characters.
    """
    if len(glob) > _MAX_GLOB:
        raise QueryError(f"path_glob is {len(glob)} characters long; {_MAX_GLOB} are the limit")
    text = escape(glob.replace("\\", "/").removeprefix("./").lower())
    if text.endswith("/"):
        text += "**"
    anywhere = "/" not in text
    inside = "" if _WILDCARD.search(text.rpartition("/")[2]) else "(?:/.*)?"
    parts, at = [], 0
    depth = 0
    text = text.removeprefix("/")
    while at < len(text):
        regex, at, depth = _translate_next(text, at, depth, glob)
        parts.append(regex)
    if depth:
        raise QueryError(f"path_glob {glob!r} opens a brace that it does not close")
    return f"{_START}{'(?:.*/)?' if anywhere else ''}{''.join(parts)}{inside}$"


def _translate_next(text: str, at: int, depth: int, glob: str) -> tuple[str, int, int]:
    """Translate the token at ``at``; returns its regex, the offset of the next token and the depth of braces."""
    char = text[at]
    if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
        return "(?:.*/)?", at + 3, depth
    if text.startswith("**", at):
        return ".*", at + 2, depth
    if char == "*":
        return "[^/]*", at + 1, depth
    if char == "?":
        return _ANY_CHARACTER, at + 1, depth
    if char == "[":
        end = text.find("]", at + 2)
        if end < 0:
            raise QueryError(f"path_glob {glob!r} opens a bracket that it does not close; write [[] for the character")
        return _bracket(text[at + 1 : end]), end + 1, depth
    if char == "{":
        if depth == _MAX_BRACES:
            raise QueryError(f"path_glob nests more than {_MAX_BRACES} braces; write fewer alternatives")
        return "(?:", at + 1, depth + 1
    if char == "}" and depth:
        return ")", at + 1, depth - 1
    if char == "," and depth:
        return "|", at + 1, depth
    return _literal(char), at + 1, depth


def _bracket(inside: str) -> str:
    negated = inside[0] in "!^"
    inside = inside[1:] if negated else inside
    out = re.sub(r"(?s)(.)-(.)|(.)", lambda m: _literal(m[3]) if m[3] else _range(m[1], m[2]), inside)
    return f"[^/{out}]" if negated else f"[{out}]"


def _range(low: str, high: str) -> str:
    return f"{_literal(min(low, high))}-{_literal(max(low, high))}"


def _literal(char: str) -> str:
    """Escape a character, also inside a class: by its code point unless it is a letter or digit."""
    return char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):x}}}"


def _column(name: str) -> Any:
    return col(name)


# Fragmentation ------------------------------------------------------------------------------------------------------
# How much a table has been written to since its last maintenance.

ERASE_AFTER_S = 3600.0
"""Seconds after which an idle table is compacted even if little changed: until then deleted text is on the disk."""
ERASE_AT_LATEST_S = 24 * 3600.0
"""Seconds after which deleted text is erased even if the process has been busy all the time."""


@dataclass(slots=True)
class Fragmentation:
    """Commits and rows since the last maintenance of one table.

    Attributes:
        commits: Each is a fragment that every search opens: 50 of them take a search from 5 to 19 ms, 1,000 to 411.
        rows: Rows that the indexes do not cover and searches scan.
        rows_at_maintenance: Rows at the last maintenance.
        has_orphaned_files: Whether aborted writes may have left files that no version references.
        old_versions_expire_at: Time (``time.monotonic``) from which the versions before the last maintenance may be
            deleted; None if there are none.
        not_before: Time (``time.monotonic``) before which nothing is due, because the last attempt failed.
        first_commit_at: Time of the first commit since the last maintenance; None if there was none.
        deleted_rows: Rows that are deleted and still on the disk, at least one if there are any.
        erased: When there was last no such row, seconds since the epoch; 0 if never.
    """

    commits: int = 0
    rows: int = 0
    rows_at_maintenance: int = 0
    has_orphaned_files: bool = False
    old_versions_expire_at: float | None = None
    not_before: float = 0.0
    first_commit_at: float | None = None
    deleted_rows: int = 0
    erased: float = 0.0

    def record_commit(self, rows: int, *, deletes: bool = False) -> None:
        """Record one commit; ``deletes`` if it deleted or replaced rows."""
        self.commits += 1
        self.rows += rows
        self.deleted_rows += deletes
        self.first_commit_at = time.monotonic() if self.first_commit_at is None else self.first_commit_at

    def after_failed_write(self, before: Fragmentation) -> None:
        """Take over what the disk does not tell; the failed write may have left files that no version references."""
        self.old_versions_expire_at, self.erased = before.old_versions_expire_at, before.erased
        self.has_orphaned_files = True

    def due(self, *, idle: bool) -> bool:
        """Whether maintenance pays: with low limits when nothing else runs, with high ones when it would delay writes.

        Maintenance rewrites the table and its full-text index as a whole (0.15 s of CPU for each 1,000 rows), and the
        storage library has no other way. So the limits grow with the table: while it is being filled it is rewritten
        each time it has doubled, three times its rows in all; a third more would make it four times, 5 % twenty-fold.
        They end where searches would suffer: a row outside the index costs a word search 2.6 microseconds, a
        fragment 0.3 ms.
        """
        now = time.monotonic()
        if now < self.not_before:
            return False
        if idle:
            aged = self.first_commit_at is not None and now - self.first_commit_at >= ERASE_AFTER_S
            if (
                aged
                or self.erasure_due()
                or self.has_orphaned_files
                or (self.old_versions_expire_at is not None and now >= self.old_versions_expire_at)
            ):
                return True
            few = _clamp(20, self.rows_at_maintenance // 5000, 60)
            if self.commits >= few or self.rows >= _clamp(200, self.rows_at_maintenance // 50, 20_000):
                return True
        if self.deleted_rows and time.time() - self.erased >= ERASE_AT_LATEST_S:
            return True
        many = _clamp(100, self.rows_at_maintenance // 500, 300)
        return self.commits >= many or self.rows >= _clamp(8000, self.rows_at_maintenance, 100_000)

    def due_in(self) -> float:
        """Seconds until maintenance may be due although nothing more is written; infinite if never."""
        times = [] if self.first_commit_at is None else [self.first_commit_at + ERASE_AFTER_S]
        times += [] if self.old_versions_expire_at is None else [self.old_versions_expire_at]
        times += [time.monotonic() + self.erased + ERASE_AFTER_S - time.time()] if self.deleted_rows else []
        return max(0.0, max(self.not_before, min(times, default=math.inf)) - time.monotonic())

    def erasure_due(self) -> bool:
        """Whether it is time to erase what is deleted."""
        return self.deleted_rows > 0 and not 0 <= time.time() - self.erased < ERASE_AFTER_S


def _clamp(least: int, value: int, most: int) -> int:
    return min(max(least, value), most)


async def measure(table: Any) -> Fragmentation:
    """The fragmentation of a table, from the disk.

    Raises:
        StoreError: The table cannot be read.
    """
    with store_errors("read the index"):
        rows = await table.count_rows()
        behind = max((index.num_unindexed_rows or 0 for index in await table.list_indices()), default=0)
        stats = await table.stats()
    first_commit_at = time.monotonic() if behind else None
    fragments = stats["fragment_stats"]
    deleted_rows = (
        round(fragments["num_fragments"] * fragments["lengths"]["mean"]) - rows
    )  # the mean is of whole numbers
    commits = fragments["num_small_fragments"]
    return Fragmentation(
        commits=commits,
        rows=behind,
        rows_at_maintenance=rows - behind,
        first_commit_at=first_commit_at,
        deleted_rows=max(0, deleted_rows),
    )


async def statistics(table: Any, fragmentation: Fragmentation) -> TableStatistics:
    """The state of a table, from the disk and from what was counted since it was opened.

    Raises:
        StoreError: The table cannot be read.
    """
    with store_errors("read the index"):
        stats = await table.stats()
        indexes = {
            index.name: IndexStatistics(index.index_type, tuple(index.columns), index.num_segments or 1)
            for index in await table.list_indices()
        }
    fragments = stats["fragment_stats"]["num_fragments"]
    return TableStatistics(stats["num_rows"], fragments, fragmentation.rows, fragmentation.deleted_rows, indexes)
