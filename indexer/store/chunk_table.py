"""The ``chunks`` table: files and their text, replaced file by file, and what is remembered of it in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio.to_thread

from indexer.store.health import explained
from indexer.store.resources import trim_memory_before
from indexer.store.schema import (
    CHUNK_COLUMNS,
    FILE,
    FILE_COLUMNS,
    TOMBSTONE,
    Known,
    Plan,
    escape,
    file_rows,
    fingerprint,
    known_from,
    to_chunks,
    to_files,
)
from indexer.store.table import Fragmentation, append, both, delete, equals, lookup, measure, one_of, select, upsert
from indexer.types import FileRow, StoredChunk

KNOWN = ("chunk_id", "path", "folder", "ordinal", "locator", "heading", "parser", "recipe")
_DELETE = 5000  # paths in one condition
_IS_CHUNK = "ordinal >= 0"


class ChunkTable:
    """Rows of files and chunks.

    Attributes:
        counts: Escaped folder -> chunks, kept up to date by every write.
        tombstones: Rows waiting to be deleted.
        wear: See ``Wear``.
    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.counts: Counter[str] = Counter()
        self.tombstones = 0
        self.wear = Fragmentation()
        self._paths: set[int] = set()  # may hold paths that have gone, never misses one that is there

    async def scan(self) -> None:
        """Read the state off the table: counts, known paths, tombstones.

        Raises:
            StoreError: The table cannot be read.
        """
        rows = await select(self.table, ("path", "folder", "ordinal", "chunks"), "ordinal < 0")
        await anyio.to_thread.run_sync(self._remember, rows)
        self.wear = await measure(self.table)

    async def recount(self) -> None:
        """Read the state off the table again after a write whose outcome is unknown.

        Raises:
            StoreError: The table cannot be read.
        """
        before = self.wear
        await self.scan()
        self.wear.expires, self.wear.erased, self.wear.litter = before.expires, before.erased, True

    def _remember(self, rows: Any) -> None:
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

    async def drop_torn(self) -> int:
        """Delete every file that lacks a chunk or has one twice; returns how many there were.

        So a write ends that looked its rows up in an index that was damaged.

        Raises:
            StoreError: The table cannot be read or written.
        """
        rows = await select(self.table, ("path", "ordinal", "chunks"), f"ordinal > {TOMBSTONE}")
        torn = await anyio.to_thread.run_sync(_torn, rows)
        await self._delete(torn)
        return len(torn)

    async def files(self) -> list[FileRow]:
        """Every file row.

        Raises:
            StoreError: The table cannot be read.
        """
        with explained("read the index"):
            have = (await self.table.schema()).names  # a reader may meet a table that an earlier program wrote
        rows = await select(self.table, [name for name in FILE_COLUMNS if name in have], f"ordinal = {FILE}")
        return await anyio.to_thread.run_sync(to_files, rows)

    async def known(self, paths: Sequence[str]) -> Known:
        """What the table holds of these files; paths never seen cost no look-up.

        Raises:
            StoreError: The table cannot be read.
        """
        seen = [escaped for escaped in map(escape, paths) if fingerprint(escaped) in self._paths]
        if not seen:
            return Known({}, {})
        return await anyio.to_thread.run_sync(known_from, await lookup(self.table, "path", seen, KNOWN))

    async def commit(self, plan: Plan, paths: Sequence[str]) -> None:
        """Write a plan in one commit.

        Raises:
            StoreError: Nothing was written.
        """
        await trim_memory_before(self.wear.commits)
        await (append if plan.fresh else upsert)(self.table, plan.rows)
        self.counts.update(plan.change)
        self.tombstones += len(plan.lost)
        self._paths.update(fingerprint(escape(path)) for path in paths)
        self.wear.wrote(plan.rows.num_rows, dead=not plan.fresh)

    async def touch(self, rows: Sequence[FileRow]) -> None:
        """Rewrite file rows that exist; others are ignored.

        Raises:
            StoreError: Nothing was written.
        """
        await upsert(self.table, file_rows(rows), insert=False)
        self.wear.wrote(len(rows), dead=True)

    async def remove(self, paths: Sequence[str]) -> dict[str, str]:
        """Delete files with their chunks, 5,000 files a commit; returns id -> escaped folder of the chunks that went.

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
        self.wear.wrote(0, dead=True)
        return lost

    async def _delete(self, paths: Sequence[str]) -> None:
        for at in range(0, len(paths), _DELETE):
            await delete(self.table, one_of("path", paths[at : at + _DELETE]))

    async def remove_folder(self, folder: str) -> int:
        """Delete everything of an (escaped) folder in one commit; returns how many chunks went.

        Raises:
            StoreError: Nothing was deleted.
        """
        await delete(self.table, equals("folder", folder))
        self.wear.wrote(0, dead=True)
        return self.counts.pop(folder, 0)

    async def bury(self) -> None:
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
        rows = await lookup(self.table, "chunk_id", ids, CHUNK_COLUMNS)
        return {chunk.chunk_id: chunk for chunk in to_chunks(rows) if chunk.ordinal >= 0}

    async def alive(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids are chunks.

        Raises:
            StoreError: The table cannot be read.
        """
        return set((await lookup(self.table, "chunk_id", ids, ("chunk_id",), _IS_CHUNK))["chunk_id"].to_pylist())

    async def ids(self, folder: str | None = None) -> Any:
        """All chunk ids, or those of an (escaped) folder, as an Arrow column in table order.

        Raises:
            StoreError: The table cannot be read.
        """
        where = both(_IS_CHUNK, None if folder is None else equals("folder", folder))
        return (await select(self.table, ("chunk_id",), where))["chunk_id"]

    async def texts(self, folder: str) -> Any:
        """Arrow rows of ``chunk_id`` and ``text_hash`` of an (escaped) folder's chunks.

        Raises:
            StoreError: The table cannot be read.
        """
        return await select(self.table, ("chunk_id", "text_hash"), both(_IS_CHUNK, equals("folder", folder)))

    async def of(self, path: str, first: int = 0, last: int | None = None) -> list[StoredChunk]:
        """The chunks of a file in order, or those with ordinals from ``first`` to ``last``.

        Raises:
            StoreError: The table cannot be read.
        """
        span = f"ordinal >= {max(0, first)}" + ("" if last is None else f" AND ordinal <= {last}")
        rows = await select(self.table, CHUNK_COLUMNS, both(equals("path", escape(path)), span))
        return sorted(to_chunks(rows), key=lambda chunk: chunk.ordinal)


def _torn(rows: Any) -> list[str]:
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
