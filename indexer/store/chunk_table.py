"""The ``chunks`` table: files and their text, replaced file by file, and its counts in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio.to_thread

from indexer.store.health import store_errors
from indexer.store.resources import trim_memory_before
from indexer.store.schema import (
    CHUNK_COLUMNS,
    FILE,
    FILE_COLUMNS,
    TOMBSTONE,
    CommitPlan,
    KnownRows,
    escape,
    file_rows,
    fingerprint,
    known_from,
    to_chunks,
    to_files,
)
from indexer.store.table import (
    Fragmentation,
    all_of,
    append,
    delete,
    equals,
    measure,
    one_of,
    select,
    select_by_values,
    upsert,
)
from indexer.types import FileRow, StoredChunk

KNOWN_COLUMNS = ("chunk_id", "path", "folder", "ordinal", "locator", "heading", "parser", "recipe")
_PATHS = 5000  # in one condition
_IS_CHUNK = "ordinal >= 0"


class ChunkTable:
    """Files and chunks.

    Attributes:
        counts: Escaped folder -> chunks, kept up to date by every write.
        tombstones: Rows waiting to be deleted.
        fragmentation: See ``Fragmentation``.
    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.counts: Counter[str] = Counter()
        self.tombstones = 0
        self.fragmentation = Fragmentation()
        self._paths: set[int] = set()  # a superset of the paths in the table: removed ones stay

    async def scan(self) -> None:
        """Read counts, known paths and tombstones from the table.

        Raises:
            StoreError: The table cannot be read.
        """
        rows = await select(self.table, ("path", "folder", "ordinal", "chunks"), "ordinal < 0")
        await anyio.to_thread.run_sync(self._set_counts, rows)
        self.fragmentation = await measure(self.table)

    async def recount(self) -> None:
        """As ``scan``, after a write whose outcome is unknown.

        Raises:
            StoreError: The table cannot be read.
        """
        before = self.fragmentation
        await self.scan()
        self.fragmentation.after_failed_write(before)

    def _set_counts(self, rows: Any) -> None:
        self.counts.clear()
        self._paths.clear()
        self.tombstones = 0
        columns = (rows.column(name).to_pylist() for name in ("path", "folder", "ordinal", "chunks"))
        for path, folder, ordinal, chunks in zip(*columns, strict=True):
            self._paths.add(fingerprint(path))
            if ordinal == FILE:
                self.counts[folder] += chunks
            else:
                self.tombstones += 1

    async def delete_incomplete_files(self) -> int:
        """Delete every file that lacks a chunk or has one twice; returns how many there were.

        A write that looked up its rows in a damaged index leaves such files.

        Raises:
            StoreError: The table cannot be read or written.
        """
        rows = await select(self.table, ("path", "ordinal", "chunks"), f"ordinal > {TOMBSTONE}")
        incomplete = await anyio.to_thread.run_sync(_incomplete_files, rows)
        await self._delete(incomplete)
        return len(incomplete)

    async def files(self) -> list[FileRow]:
        """Every file row.

        Raises:
            StoreError: The table cannot be read.
        """
        with store_errors("read the index"):
            have = (await self.table.schema()).names  # a read-only store may open a table of an earlier program
        rows = await select(self.table, [name for name in FILE_COLUMNS if name in have], f"ordinal = {FILE}")
        return await anyio.to_thread.run_sync(to_files, rows)

    async def known(self, paths: Sequence[str]) -> KnownRows:
        """What the table has of these files; unknown paths cost no query.

        Raises:
            StoreError: The table cannot be read.
        """
        seen = [escaped for escaped in map(escape, paths) if fingerprint(escaped) in self._paths]
        if not seen:
            return KnownRows({}, {})
        return await anyio.to_thread.run_sync(
            known_from, await select_by_values(self.table, "path", seen, KNOWN_COLUMNS)
        )

    async def commit(self, plan: CommitPlan, paths: Sequence[str]) -> None:
        """Write a plan in one commit.

        Raises:
            StoreError: Nothing was written.
        """
        await trim_memory_before(self.fragmentation.commits)
        await (append if plan.all_new else upsert)(self.table, plan.rows)
        self.counts.update(plan.change)
        self.tombstones += len(plan.lost)
        self._paths.update(fingerprint(escape(path)) for path in paths)
        self.fragmentation.record_commit(plan.rows.num_rows, deletes=not plan.all_new)

    async def touch(self, rows: Sequence[FileRow]) -> None:
        """Rewrite file rows that exist; others are ignored.

        Raises:
            StoreError: Nothing was written.
        """
        await upsert(self.table, file_rows(rows), insert=False)
        self.fragmentation.record_commit(len(rows), deletes=True)

    async def remove(self, paths: Sequence[str]) -> dict[str, str]:
        """Delete files with their chunks, 5,000 files a commit; returns id -> escaped folder of the removed chunks.

        Raises:
            StoreError: Nothing was deleted.
        """
        known = await self.known(paths)
        gone = sorted(set(known.recipes) | {held.path for held in known.chunks.values()})
        if not gone:
            return {}
        await self._delete(gone)
        lost = {chunk_id: held.folder for chunk_id, held in known.chunks.items() if held.ordinal >= 0}
        self.tombstones -= len(known.chunks) - len(lost)
        self.counts.subtract(Counter(lost.values()))
        self.fragmentation.record_commit(0, deletes=True)
        return lost

    async def _delete(self, paths: Sequence[str]) -> None:
        for at in range(0, len(paths), _PATHS):
            await delete(self.table, one_of("path", paths[at : at + _PATHS]))

    async def remove_folder(self, folder: str) -> int:
        """Delete everything of an (escaped) folder in one commit; returns how many chunks were removed.

        Raises:
            StoreError: Nothing was deleted.
        """
        await delete(self.table, equals("folder", folder))
        self.fragmentation.record_commit(0, deletes=True)
        return self.counts.pop(folder, 0)

    async def delete_unused_rows(self) -> None:
        """Delete the tombstones.

        Raises:
            StoreError: Nothing was deleted.
        """
        if self.tombstones:
            await delete(self.table, f"ordinal = {TOMBSTONE}")
            self.tombstones = 0

    async def fetch(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """The chunks with these ids that exist.

        Raises:
            StoreError: The table cannot be read.
        """
        # Tombstones are left out here: a condition on a column without an index would cost a search 1.5 ms.
        rows = await select_by_values(self.table, "chunk_id", ids, CHUNK_COLUMNS)
        return {chunk.chunk_id: chunk for chunk in to_chunks(rows) if chunk.ordinal >= 0}

    async def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """The ids among these that are chunks.

        Raises:
            StoreError: The table cannot be read.
        """
        return set(
            (await select_by_values(self.table, "chunk_id", ids, ("chunk_id",), _IS_CHUNK))["chunk_id"].to_pylist()
        )

    async def ids(self, folder: str | None = None) -> Any:
        """All chunk ids, or those of an (escaped) folder, as an Arrow column in table order.

        Raises:
            StoreError: The table cannot be read.
        """
        where = all_of(_IS_CHUNK, None if folder is None else equals("folder", folder))
        return (await select(self.table, ("chunk_id",), where))["chunk_id"]

    async def text_hashes(self, folder: str) -> Any:
        """Arrow rows of ``chunk_id`` and ``text_hash`` of an (escaped) folder's chunks.

        Raises:
            StoreError: The table cannot be read.
        """
        return await select(self.table, ("chunk_id", "text_hash"), all_of(_IS_CHUNK, equals("folder", folder)))

    async def chunks_of(self, path: str, first: int = 0, last: int | None = None) -> list[StoredChunk]:
        """The chunks of a file in order, or those with ordinals from ``first`` to ``last``.

        Raises:
            StoreError: The table cannot be read.
        """
        span = f"ordinal >= {max(0, first)}" + ("" if last is None else f" AND ordinal <= {last}")
        rows = await select(self.table, CHUNK_COLUMNS, all_of(equals("path", escape(path)), span))
        return sorted(to_chunks(rows), key=lambda chunk: chunk.ordinal)


def _incomplete_files(rows: Any) -> list[str]:
    """Escaped paths whose rows are not one for the file and one for each of the chunks it counts."""
    figures = [("ordinal", name) for name in ("count", "count_distinct", "min", "max")]
    gathered = rows.group_by("path").aggregate([*figures, ("chunks", "sum")])
    names = ("path", "ordinal_count", "ordinal_count_distinct", "ordinal_min", "ordinal_max", "chunks_sum")
    return [
        path
        for path, there, distinct, first, last, counted in zip(
            *(gathered[name].to_pylist() for name in names), strict=True
        )
        if (there, distinct, first, last) != ((counted or 0) + 1, there, FILE, (counted or 0) + FILE)
    ]
