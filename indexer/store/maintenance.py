"""Maintenance: deletes tombstones and orphans, compacts, grows indexes, removes old versions; the order of writers.

It holds the write lock, because compaction beside a writer leaves orphaned files, and removing old versions beside one
destroys tables. Only a vector index is trained beside writers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

import anyio
import anyio.to_thread

from indexer import waits
from indexer.errors import StoreError
from indexer.store.chunk_table import ChunkTable
from indexer.store.connection import Connection
from indexer.store.files_on_disk import check_space, sync_files, tree_bytes
from indexer.store.health import library_errors, store_errors, to_store_error
from indexer.store.resources import give_back_memory
from indexer.store.schema import VECTOR_INDEX, text_index, vector_index
from indexer.store.table import ERASE_AFTER_S, measure, upsert
from indexer.store.vector_table import VectorTable

EXACT = 5000
"""Vectors below which every search compares all of them: about 8 ms, and nothing to train."""
_SEGMENTS = 8  # of a vector index; each maintenance adds one, 20 double the time of a search
_MOST_INTERRUPTIONS = 3  # runs in a row; the next one makes writers wait until it has finished
KEEP = timedelta(minutes=2)
"""How long old versions are kept: longer than any search that may still read them. Each maintenance of a busy index
leaves one, so this bounds the disk."""


class Maintenance:
    """Maintenance of one database and its record.

    Attributes:
        runs: Tables compacted since the store was opened.
        failures: How often a table failed, or succeeded only after its search index was rebuilt.
        last: When a run last succeeded, seconds since the epoch; None before.
        last_error: Why the last run failed, empty when it succeeded.
        disk: Size of the database when last measured, bytes; None before.
        keep: How long old versions stay.
        exact: Vectors below which there is no index of them.
        interrupted_runs: Runs in a row that were cancelled because a writer was waiting.
    """

    def __init__(self, connection: Connection, keep: timedelta = KEEP) -> None:
        self.runs = 0
        self.failures = 0
        self.last: float | None = None
        self.last_error = ""
        self.disk: int | None = None
        self._directory = connection.directory
        self._health = connection.health
        self.keep = keep
        self.exact = EXACT
        self.interrupted_runs = 0
        self._checksums = connection.checksums
        self._synced = 0.0

    def due(self, chunks: ChunkTable, vectors: Iterable[VectorTable], *, idle: bool) -> bool:
        """Whether any table is so fragmented that maintenance pays."""
        return any(
            fragmentation.due(idle=idle)
            for fragmentation in (chunks.fragmentation, *(table.fragmentation for table in vectors))
        )

    async def run(
        self, chunks: ChunkTable, vectors: Collection[VectorTable], write_lock: WriteLock, *, force: bool
    ) -> None:
        """Compact every table that needs it, one after the other; cancel one that can wait when a writer waits.

        Raises:
            StoreError: A table failed; the others are done.
        """
        failed: StoreError | None = None
        tables: tuple[ChunkTable | VectorTable, ...] = (chunks, *vectors)
        for table in tables:
            if force or table.fragmentation.due(idle=True):
                try:
                    await self._maintain(table, write_lock, force=force)
                except library_errors(StoreError) as error:
                    self.failures += 1
                    table.fragmentation.not_before = time.monotonic() + waits.MAINTENANCE_RETRY_S
                    failed = to_store_error(error, f"put table {table.table.name} of the index in order")
                    failed.__cause__ = failed.__cause__ or error
        await self._finish_run(write_lock)
        self.last_error = str(failed) if failed else ""
        if failed:
            raise failed
        self.last = time.time()

    async def _maintain(self, table: ChunkTable | VectorTable, write_lock: WriteLock, *, force: bool) -> None:
        await anyio.to_thread.run_sync(check_space, self._directory, f"{table.table.name}.lance")
        await self._check_indexes(table.table.name)
        if isinstance(table, VectorTable):  # no lock: vectors are only appended, which training admits
            await _train_if_outgrown(table, self.exact)
        urgent = (
            force
            or table.fragmentation.has_orphaned_files
            or table.fragmentation.due(idle=False)
            or self.interrupted_runs >= _MOST_INTERRUPTIONS
        )
        if urgent:
            async with write_lock:
                await self._compact(table)
        else:
            async with write_lock.interruptible() as scope:
                await self._compact(table)
            if scope.cancel_called and table.fragmentation.has_orphaned_files:
                self.interrupted_runs += 1
                table.fragmentation.not_before = time.monotonic() + waits.MAINTENANCE_RESUME_S
                return
        self.interrupted_runs = 0
        self.runs += 1

    async def _finish_run(self, write_lock: WriteLock) -> None:
        """Compute checksums of what was written, flush it, and give memory back."""
        started, self._synced = self._synced, time.time()
        async with write_lock:  # while nobody writes every file is complete
            unknown_files = await anyio.to_thread.run_sync(self._checksums.unknown_files)
        await anyio.to_thread.run_sync(sync_files, self._directory, started)
        with store_errors("write down the sums of the index's files"):
            await anyio.to_thread.run_sync(self._checksums.update, unknown_files)
        await anyio.to_thread.run_sync(give_back_memory)
        await self.measure()

    async def measure(self) -> int:
        """Measure the database directory, bytes."""
        self.disk = await anyio.to_thread.run_sync(tree_bytes, self._directory)
        return self.disk

    async def _compact(self, table: ChunkTable | VectorTable) -> None:
        had_orphaned_files, changed, erased = (
            table.fragmentation.has_orphaned_files,
            table.fragmentation.commits > 0,
            table.fragmentation.erased,
        )
        table.fragmentation.has_orphaned_files = True  # until it has finished
        if not (isinstance(table, VectorTable) and self._health.rebuilding):  # their chunks are about to come back
            await table.delete_unused_rows()
        await self._optimize(table, had_orphaned_files)
        fragmentation = await measure(table.table)
        if fragmentation.deleted_rows and not 0 <= time.time() - erased < ERASE_AFTER_S:
            await self._erase(table)
            fragmentation, erased = await measure(table.table), time.time()
        if not fragmentation.deleted_rows:
            erased = self._checksums.erased[table.table.name] = time.time()
        fragmentation.commits, fragmentation.erased = (
            0,
            erased,
        )  # fragments still small have nothing to be joined with
        fragmentation.old_versions_expire_at = time.monotonic() + self.keep.total_seconds() + 1 if changed else None
        table.fragmentation = fragmentation
        await _prewarm(table.table)

    async def _check_indexes(self, name: str) -> None:
        """Refuse to grow damaged search indexes: the result would be wrong, and the originals would be deleted."""
        if await anyio.to_thread.run_sync(self._checksums.changed_index_files, name):
            raise StoreError(f"a search index of table {name} has changed on disk; it is made anew", "damaged")

    async def _erase(self, table: ChunkTable | VectorTable) -> None:
        """Make compaction drop deleted rows, which it otherwise leaves in a fragment until they are a tenth of it.

        It drops them when it joins two fragments, so one row is written again to make a second fragment. The first
        round makes the indexes cover it, and only then the second joins. Fragments of more than a million rows are not
        joined.
        """
        row = await table.table.query().limit(1).to_arrow()
        if row.num_rows:
            await upsert(table.table, row)
            for _ in range(2):
                await self._optimize(table, had_orphaned_files=False)

    async def _optimize(self, table: ChunkTable | VectorTable, had_orphaned_files: bool) -> None:
        """Compact, grow the indexes, delete old versions; if that fails, rebuild the search index and retry."""
        try:
            await table.table.optimize(cleanup_older_than=self.keep, delete_unverified=had_orphaned_files)
        except library_errors() as error:
            if to_store_error(error, "").code in ("disk_full", "read_only", "permission"):
                raise
            self.failures += 1
            if isinstance(table, VectorTable):
                await _train(table, self.exact)
            else:
                await table.table.create_index("tokens", config=text_index(), replace=True)
            await table.table.optimize(cleanup_older_than=self.keep)


async def _train_if_outgrown(vectors: VectorTable, exact: int) -> None:
    """Train the vector index when there are enough vectors, too many segments, or twice as many vectors as before.

    Its name has its kind and the number of vectors it was trained on; an index of an earlier kind is replaced.
    """
    rows = await vectors.table.count_rows()
    found = [index for index in await vectors.table.list_indices() if index.name.startswith(VECTOR_INDEX)]
    trained = max((int(index.name.rpartition("_")[2]) for index in found), default=0)
    parts = max((index.num_segments or 1 for index in found), default=0)
    if rows >= exact and (not found or rows >= 2 * trained or parts > _SEGMENTS):
        await _train(vectors, exact)


async def _train(vectors: VectorTable, exact: int) -> None:
    """Build the vector index from all vectors, then drop the one it replaces, so that searches always have one."""
    rows = await vectors.table.count_rows()
    if rows < exact:
        return
    name = f"{VECTOR_INDEX}{rows}"
    old = [i.name for i in await vectors.table.list_indices() if i.columns == ["vector"] and i.name != name]
    await vectors.table.create_index("vector", config=vector_index(vectors.dim), name=name, replace=True)
    for other in old:
        await vectors.table.drop_index(other)


async def _prewarm(table: Any) -> None:
    """Load the search indexes: the first query at 100,000 rows costs 110 ms otherwise."""
    for index in await table.list_indices():
        if index.columns in (["tokens"], ["vector"]):
            try:
                await table.prewarm_index(index.name)
            except library_errors():  # the cache is too small for the whole index: searches load what they need
                continue


# Order of writers ---------------------------------------------------------------------------------------------------


class WriteLock:
    """FIFO lock of the writers of this process; maintenance that holds it can be cancelled when a writer waits.

    Attributes:
        longest_hold_s: The longest time it was held, seconds.
    """

    def __init__(self) -> None:
        self.longest_hold_s = 0.0
        self._lock = anyio.Lock()
        self._waiting = 0
        self._writer_waits = anyio.Event()
        self._since = 0.0

    async def __aenter__(self) -> None:
        self._waiting += 1
        self._writer_waits.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._writer_waits = anyio.Event()
        self._since = time.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.longest_hold_s = max(self.longest_hold_s, time.monotonic() - self._since)
        self._lock.release()

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[anyio.CancelScope]:
        """Hold the lock; once a writer has waited for ``WRITER_WAIT_S``, the scope is cancelled."""
        async with self, anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_for_writer, tasks.cancel_scope)
            yield tasks.cancel_scope
            tasks.cancel_scope.cancel()

    async def _cancel_for_writer(self, scope: anyio.CancelScope) -> None:
        while True:
            await self._writer_waits.wait()
            await anyio.sleep(waits.WRITER_WAIT_S)
            if self._waiting:
                scope.cancel()
                return
