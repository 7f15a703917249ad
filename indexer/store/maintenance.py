"""Keeping the tables small and fast: tombstones and orphans out, fragments joined, indexes grown, old versions gone.

Runs in the same turn as writes, because compaction beside a writer strands files, and cleaning beside one destroys
tables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from indexer.errors import StoreError
from indexer.store import runtime
from indexer.store.chunks import ChunkTable
from indexer.store.connection import Connection
from indexer.store.fault import RAISED, explain, explained
from indexer.store.schema import vector_index, words_index
from indexer.store.vectors import VectorTable
from indexer.store.wear import measure

EXACT = 5000
"""Vectors below which every search compares all of them: about 8 ms, and nothing to train."""
_SEGMENTS = 8  # parts of a vector index; each maintenance adds one, 20 double the time of a search
_REST = 60.0  # seconds after a failure before the next attempt
KEEP = timedelta(minutes=10)
"""How long old versions stay: longer than any search that may still read them."""


class Upkeep:
    """Maintenance of one database and its record.

    Attributes:
        runs: Tables put in order since the store was opened.
        failures: How often a table could not be, or only after its search index was made anew.
        last: When a run last ended well, seconds since the epoch; None before.
        last_error: What went wrong in the last run, empty when it went well.
        disk: Size of the database when last measured, bytes; None before.
        keep: How long old versions stay.
        exact: Vectors below which there is no index of them.
    """

    def __init__(self, connection: Connection, keep: timedelta = KEEP) -> None:
        self.runs = 0
        self.failures = 0
        self.last: float | None = None
        self.last_error = ""
        self.disk: int | None = None
        self._place = connection.place
        self._health = connection.health
        self.keep = keep
        self.exact = EXACT
        self._sums = connection.sums
        self._synced = 0.0

    def due(self, chunks: ChunkTable, vectors: Iterable[VectorTable], *, idle: bool) -> bool:
        """Whether any table has been written to so much that maintenance pays."""
        return any(wear.due(idle=idle) for wear in (chunks.wear, *(table.wear for table in vectors)))

    async def run(
        self, chunks: ChunkTable, vectors: Collection[VectorTable], turn: anyio.Lock, *, force: bool
    ) -> None:
        """Put every table that needs it in order, one a turn.

        Raises:
            StoreError: A table could not be done; the others were.
        """
        failed: StoreError | None = None
        tables: tuple[ChunkTable | VectorTable, ...] = (chunks, *vectors)
        for table in tables:
            async with turn:
                if force or table.wear.due(idle=True):
                    try:
                        await self._one(table, bool(self._health.rebuilding))
                        self.runs += 1
                    except (*RAISED, StoreError) as error:
                        self.failures += 1
                        table.wear.rest = time.monotonic() + _REST
                        failed = explain(error, f"put table {table.table.name} of the index in order")
                        failed.__cause__ = failed.__cause__ or error
        started, self._synced = self._synced, time.time()
        async with turn:  # while nobody writes every file is complete
            fresh = await anyio.to_thread.run_sync(self._sums.fresh)
        await anyio.to_thread.run_sync(sync_files, self._place, started)
        with explained("write down the sums of the index's files"):
            await anyio.to_thread.run_sync(self._sums.learn, fresh)
        await anyio.to_thread.run_sync(runtime.give_back_memory)
        await self.measure()
        self.last_error = str(failed) if failed else ""
        if failed:
            raise failed
        self.last = time.time()

    async def measure(self) -> int:
        """Measure the database directory, bytes."""
        self.disk = await anyio.to_thread.run_sync(tree_bytes, self._place)
        return self.disk

    async def _one(self, table: ChunkTable | VectorTable, rebuilding: bool) -> None:
        await anyio.to_thread.run_sync(_check_space, self._place, f"{table.table.name}.lance")
        littered, changed = table.wear.litter, table.wear.commits > 0
        table.wear.litter = True  # until it has run to its end
        if not (isinstance(table, VectorTable) and rebuilding):  # their chunks are about to come back
            await table.bury()
        if isinstance(table, VectorTable):
            await _tend_vector_index(table, self.exact)
        await self._optimize(table, littered)
        table.wear = await measure(table.table)
        table.wear.commits = 0  # fragments that are small still are those there is nothing to join with
        table.wear.expires = time.monotonic() + self.keep.total_seconds() + 1 if changed else None
        await _prewarm(table.table)

    async def _optimize(self, table: ChunkTable | VectorTable, littered: bool) -> None:
        """Compact, grow the indexes, delete old versions; an index that refuses is made anew, once."""
        try:
            await table.table.optimize(cleanup_older_than=self.keep, delete_unverified=littered)
        except RAISED as error:
            if explain(error, "").code in ("disk_full", "read_only", "permission"):
                raise
            self.failures += 1
            if isinstance(table, VectorTable):
                await _train(table, self.exact)
            else:
                await table.table.create_index("tokens", config=words_index(), replace=True)
            await table.table.optimize(cleanup_older_than=self.keep)


async def _tend_vector_index(vectors: VectorTable, exact: int) -> None:
    """Train the vector index when there are enough vectors, or it has split up, or they have doubled since.

    Its name tells how many vectors it was trained on.
    """
    rows = await vectors.table.count_rows()
    found = [index for index in await vectors.table.list_indices() if index.columns == ["vector"]]
    trained = max((int(index.name.rpartition("_")[2]) for index in found), default=0)
    parts = max((index.num_segments or 1 for index in found), default=0)
    if rows >= exact and (not found or rows >= 2 * trained or parts > _SEGMENTS):
        await _train(vectors, exact)


async def _train(vectors: VectorTable, exact: int) -> None:
    """Build the vector index from all vectors, then drop the one it replaces; searches never go without."""
    rows = await vectors.table.count_rows()
    if rows < exact:
        return
    name = f"vector_{rows}"
    old = [i.name for i in await vectors.table.list_indices() if i.columns == ["vector"] and i.name != name]
    await vectors.table.create_index("vector", config=vector_index(vectors.dim), name=name, replace=True)
    for other in old:
        await vectors.table.drop_index(other)


async def _prewarm(table: Any) -> None:
    """Load the search indexes: the first query at 100,000 rows costs 110 ms otherwise."""
    for index in await table.list_indices():
        if index.columns in (["tokens"], ["vector"]):
            # It raises when the cache evicts a part before the whole is in: searches then load it as they go.
            with contextlib.suppress(*RAISED):
                await table.prewarm_index(index.name)


def tree_bytes(place: Path) -> int:
    """Size of all files below a directory, bytes; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def sync_files(place: Path, since: float) -> None:
    """Flush to the disk what was written after ``since``.

    The storage library never does, so a power cut takes back whatever the system had not yet written by itself.
    """
    for folder, _, names in os.walk(place):
        for path in (*(Path(folder) / name for name in names), Path(folder)):
            with contextlib.suppress(OSError):  # gone meanwhile, or a directory on Windows
                if path.stat().st_mtime >= since - 1:
                    _flush(path)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_space(place: Path, name: str) -> None:
    """Refuse when compaction would not fit: it needs 1.2 times the table before it frees anything."""
    needed, free = int(1.2 * tree_bytes(place / name)), shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"maintenance of the index is passed over: it needs {needed >> 20} MiB of free disk "
            f"and {free >> 20} MiB are left",
            "disk_full",
        )
