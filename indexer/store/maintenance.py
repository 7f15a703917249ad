"""Keeping the tables small and fast: tombstones and orphans out, fragments joined, indexes grown, old versions gone.

Runs in the same turn as writes, because compaction beside a writer strands files, and cleaning beside one destroys
tables; only a vector index is trained beside them.
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
from indexer.store import connection
from indexer.store.chunk_table import ChunkTable
from indexer.store.connection import Connection
from indexer.store.files_on_disk import check_space, sync_files, tree_bytes
from indexer.store.health import explain, explained, raised
from indexer.store.schema import VECTOR_INDEX, vector_index, words_index
from indexer.store.table import AGED, measure, upsert
from indexer.store.vector_table import VectorTable

EXACT = 5000
"""Vectors below which every search compares all of them: about 8 ms, and nothing to train."""
_SEGMENTS = 8  # parts of a vector index; each maintenance adds one, 20 double the time of a search
_BROKEN_OFF = 3  # times in a row after which writers wait until it has run to its end
KEEP = timedelta(minutes=2)
"""How long old versions stay: longer than any search that may still read them. Each upkeep of a busy index leaves one,
so this bounds the disk."""


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
        broken_off: Runs in a row that were broken off because a writer was waiting.
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
        self.broken_off = 0
        self._sums = connection.sums
        self._synced = 0.0

    def due(self, chunks: ChunkTable, vectors: Iterable[VectorTable], *, idle: bool) -> bool:
        """Whether any table has been written to so much that maintenance pays."""
        return any(wear.due(idle=idle) for wear in (chunks.wear, *(table.wear for table in vectors)))

    async def run(self, chunks: ChunkTable, vectors: Collection[VectorTable], turn: WriteLock, *, force: bool) -> None:
        """Put every table that needs it in order, one a turn; a run that can wait is broken off for a waiting writer.

        Raises:
            StoreError: A table could not be done; the others were.
        """
        failed: StoreError | None = None
        tables: tuple[ChunkTable | VectorTable, ...] = (chunks, *vectors)
        for table in tables:
            if force or table.wear.due(idle=True):
                try:
                    await self._in_turn(table, turn, force=force)
                except raised(StoreError) as error:
                    self.failures += 1
                    table.wear.rest = time.monotonic() + waits.MAINTENANCE_RETRY_S
                    failed = explain(error, f"put table {table.table.name} of the index in order")
                    failed.__cause__ = failed.__cause__ or error
        await self._settle(turn)
        self.last_error = str(failed) if failed else ""
        if failed:
            raise failed
        self.last = time.time()

    async def _in_turn(self, table: ChunkTable | VectorTable, turn: WriteLock, *, force: bool) -> None:
        await anyio.to_thread.run_sync(check_space, self._place, f"{table.table.name}.lance")
        await self._see_indexes(table.table.name)
        if isinstance(table, VectorTable):  # beside writers: vectors are only appended, which an index does not mind
            await _tend_vector_index(table, self.exact)
        must = force or table.wear.litter or table.wear.due(idle=False) or self.broken_off >= _BROKEN_OFF
        if must:
            async with turn:
                await self._one(table)
        else:
            async with turn.yielding() as scope:
                await self._one(table)
            if scope.cancel_called and table.wear.litter:
                self.broken_off += 1
                table.wear.rest = time.monotonic() + waits.MAINTENANCE_RESUME_S
                return
        self.broken_off = 0
        self.runs += 1

    async def _settle(self, turn: WriteLock) -> None:
        """Sum and flush what was written, and give memory back."""
        started, self._synced = self._synced, time.time()
        async with turn:  # while nobody writes every file is complete
            fresh = await anyio.to_thread.run_sync(self._sums.fresh)
        await anyio.to_thread.run_sync(sync_files, self._place, started)
        with explained("write down the sums of the index's files"):
            await anyio.to_thread.run_sync(self._sums.learn, fresh)
        await anyio.to_thread.run_sync(connection.give_back_memory)
        await self.measure()

    async def measure(self) -> int:
        """Measure the database directory, bytes."""
        self.disk = await anyio.to_thread.run_sync(tree_bytes, self._place)
        return self.disk

    async def _one(self, table: ChunkTable | VectorTable) -> None:
        littered, changed, erased = table.wear.litter, table.wear.commits > 0, table.wear.erased
        table.wear.litter = True  # until it has run to its end
        if not (isinstance(table, VectorTable) and self._health.rebuilding):  # their chunks are about to come back
            await table.bury()
        await self._optimize(table, littered)
        wear = await measure(table.table)
        if wear.dead and not 0 <= time.time() - erased < AGED:
            await self._erase(table)
            wear, erased = await measure(table.table), time.time()
        if not wear.dead:
            erased = self._sums.erased[table.table.name] = time.time()
        wear.commits, wear.erased = 0, erased  # fragments that are small still are those there is nothing to join with
        wear.expires = time.monotonic() + self.keep.total_seconds() + 1 if changed else None
        table.wear = wear
        await _prewarm(table.table)

    async def _see_indexes(self, name: str) -> None:
        """Refuse to grow search indexes from damaged ones: the new ones would be wrong, and the old ones go."""
        if await anyio.to_thread.run_sync(self._sums.bad_indexes, name):
            raise StoreError(f"a search index of table {name} has changed on disk; it is made anew", "damaged")

    async def _erase(self, table: ChunkTable | VectorTable) -> None:
        """Make compaction drop deleted rows, which it leaves in a fragment until they are a tenth of it.

        Unless there is another one to join it with: so a row is written once more. The first round makes the
        indexes cover it, and only then the second joins. Fragments of more than a million rows are not joined.
        """
        row = await table.table.query().limit(1).to_arrow()
        if row.num_rows:
            await upsert(table.table, row)
            for _ in range(2):
                await self._optimize(table, littered=False)

    async def _optimize(self, table: ChunkTable | VectorTable, littered: bool) -> None:
        """Compact, grow the indexes, delete old versions; an index that refuses is made anew, once."""
        try:
            await table.table.optimize(cleanup_older_than=self.keep, delete_unverified=littered)
        except raised() as error:
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

    Its name tells of what kind it is and how many vectors it was trained on; one of an earlier kind is replaced.
    """
    rows = await vectors.table.count_rows()
    found = [index for index in await vectors.table.list_indices() if index.name.startswith(VECTOR_INDEX)]
    trained = max((int(index.name.rpartition("_")[2]) for index in found), default=0)
    parts = max((index.num_segments or 1 for index in found), default=0)
    if rows >= exact and (not found or rows >= 2 * trained or parts > _SEGMENTS):
        await _train(vectors, exact)


async def _train(vectors: VectorTable, exact: int) -> None:
    """Build the vector index from all vectors, then drop the one it replaces; searches never go without."""
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
            except raised():  # the cache evicted a part before the whole was in: searches load it as they go
                continue


# Order of writers ---------------------------------------------------------------------------------------------------
# The turn in which writers take the tables, and how long maintenance may keep them waiting for it.


class WriteLock:
    """A lock, first come first served; who holds it and can be broken off hears that somebody is waiting.

    Attributes:
        longest: Seconds for which it was held at the longest.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._lock = anyio.Lock()
        self._waiting = 0
        self._wanted = anyio.Event()
        self._since = 0.0

    async def __aenter__(self) -> None:
        self._waiting += 1
        self._wanted.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted = anyio.Event()
        self._since = time.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.longest = max(self.longest, time.monotonic() - self._since)
        self._lock.release()

    @asynccontextmanager
    async def yielding(self) -> AsyncIterator[anyio.CancelScope]:
        """A turn that ends early once a writer has waited for ``WRITER_WAIT_S``; the scope says whether it did."""
        async with self, anyio.create_task_group() as tasks:
            tasks.start_soon(self._break_off, tasks.cancel_scope)
            yield tasks.cancel_scope
            tasks.cancel_scope.cancel()

    async def _break_off(self, scope: anyio.CancelScope) -> None:
        while True:
            await self._wanted.wait()
            await anyio.sleep(waits.WRITER_WAIT_S)
            if self._waiting:
                scope.cancel()
                return
