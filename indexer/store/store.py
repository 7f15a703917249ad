"""The open index: files, chunks and vectors, one writing process, any number of readers.

Writes are serialized and atomic: no reader sees a part of one, and a process killed anywhere leaves an index that
opens. Searches never wait for a write.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from indexer.errors import StoreError
from indexer.store import queries
from indexer.store.chunk_table import ChunkTable
from indexer.store.connection import connect, prepare_directory
from indexer.store.health import store_errors
from indexer.store.maintenance import Maintenance
from indexer.store.open_tables import OpenTables, open_vectors
from indexer.store.private_directory import make_directory
from indexer.store.schema import Counts, Replaced, StoreStatistics, escape, plan_commit, unescape
from indexer.store.table import statistics
from indexer.store.vector_table import VectorTable, reuse_all
from indexer.store.writer_lock import WriterLock, is_free
from indexer.types import FileRow, FileWrite, Matrix, Scope, Scored, StoredChunk, Vector

# Decorators that record read and write errors in ``Health`` ----------------------------------------------------------

_PROBE_BYTES = 64 << 10  # must fit on the disk before writing is tried again

P = ParamSpec("P")
T = TypeVar("T")


def _records_read(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Decorate a method that reads the tables: record an error that means damage."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.record_read_failure(error)
            raise

    return guarded


def _records_write(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Decorate a method that writes: refuse it in a read-only store; record its failure, and clear it on success."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if store.read_only:
            raise StoreError(
                f"the index in {store.directory} is open for reading only, another folder-mcp writes it", "read_only"
            )
        try:
            done = await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.record_write_failure(error)
            raise
        store.health.record_write_success()
        return done

    return guarded


# Store --------------------------------------------------------------------------------------------------------------


class Store:
    """An open index. Made by ``open_store``; every method is for the event loop it was opened in.

    Every method that reads or writes the tables may raise ``StoreError``, which is recorded in ``health``. A write
    that failed has changed nothing or everything (the error came after the commit); repeating it is right in both
    cases.

    Attributes:
        directory: The data directory.
        read_only: Whether writing is refused (``StoreError`` with code ``read_only``).
        maintenance: Compaction and its record.
        health: What is wrong with the index, and what was wrong before.
    """

    def __init__(self, tables: OpenTables) -> None:
        self.directory = tables.connection.root
        self.read_only = tables.connection.read_only
        self.maintenance = Maintenance(tables.connection)
        self.health = tables.connection.health
        self._tables = tables

    @property
    def damage(self) -> tuple[str, ...]:
        """One sentence for each damage found since the index was opened: what it was and what was done about it."""
        return tuple(self.health.damage)

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Names of the directories in ``damaged``."""
        return self.health.quarantined

    # Files and their text

    @_records_read
    async def files(self) -> list[FileRow]:
        """The manifest: a row for every file the index knows of."""
        return await self._chunks.files()

    @_records_read
    async def chunks_of(self, path: str) -> list[StoredChunk]:
        """The chunks of a file in order; empty when it has none or is unknown."""
        return await self._chunks.chunks_of(path)

    @_records_read
    async def chunks_between(self, path: str, first: int, last: int) -> list[StoredChunk]:
        """The existing chunks of a file with ordinals from ``first`` to ``last``, in order."""
        return await self._chunks.chunks_of(path, first, last)

    @_records_write
    async def replace(self, writes: Sequence[FileWrite]) -> Replaced:
        """Replace what the index has of these files, all in one commit.

        Chunks that are the same as before keep their id and so their vector. If a path is written twice, the last
        write counts. Most efficient with 500 rows or more at once.
        """
        last = {write.row.path: write for write in writes}
        if not last:
            return Replaced(0, 0, 0, 0, ())
        async with self._tables.locked_for_writing():
            known = await self._chunks.known(list(last))
            commit = await anyio.to_thread.run_sync(plan_commit, list(last.values()), known)
            with anyio.CancelScope(shield=True):  # the counts must follow what the disk has
                await self._chunks.commit(commit, list(last))
                for vectors in self._vectors.values():
                    await vectors.update_counts(commit.added, commit.lost)
        return Replaced(len(last), commit.kept + len(commit.added), commit.kept, len(commit.lost), commit.added)

    @_records_write
    async def touch(self, rows: Sequence[FileRow]) -> None:
        """Rewrite the rows of files whose content is the same (a new modification time); unknown ones are ignored."""
        if rows:
            async with self._tables.locked_for_writing():
                with anyio.CancelScope(shield=True):
                    await self._chunks.touch(rows)

    @_records_write
    async def remove(self, paths: Sequence[str]) -> int:
        """Remove files, in one commit up to 5,000 files; returns how many chunks were removed.

        Maintenance deletes their vectors later. Until then the vectors are reused for equal text elsewhere, so that a
        rename embeds nothing, whether the new or the old path is reported first.
        """
        async with self._tables.locked_for_writing():
            with anyio.CancelScope(shield=True):
                lost = await self._chunks.remove(paths)
                for vectors in self._vectors.values():
                    await vectors.update_counts((), lost)
        return len(lost)

    @_records_write
    async def remove_folder(self, folder: str) -> int:
        """Remove a folder, its text and then its vectors; returns how many chunks were removed."""
        async with self._tables.locked_for_writing():
            with anyio.CancelScope(shield=True):
                gone = await self._chunks.remove_folder(escape(folder))
                for vectors in self._vectors.values():
                    await vectors.drop(escape(folder))
        return gone

    # Vectors

    @_records_write
    async def pending(self, key: str, dim: int, folder: str, limit: int | None = None) -> list[StoredChunk]:
        """Chunks of a folder that have no vector of this model: the embedding queue, derived from the tables.

        A second call returns the same chunks unless vectors were added. Without a limit, the text of all is in memory.
        """
        async with self._tables.locked_for_writing():  # a write during the comparison of the tables would be missed
            vectors = await self._tables.vectors_for(key, dim)
            await vectors.backlog(escape(folder), self._chunks)
        return await vectors.waiting(escape(folder), self._chunks, limit)

    @_records_write
    async def add_vectors(self, key: str, dim: int, items: Sequence[tuple[Sequence[StoredChunk], Matrix]]) -> int:
        """Append vectors in one commit; returns how many were added (the other chunks are gone, or had one already).

        Items are chunks as returned by ``pending`` or ``replace``, with a row of the matrix for each. One vector that
        is not finite or not of unit length makes the whole call fail.
        """
        async with self._tables.locked_for_writing():
            vectors = await self._tables.vectors_for(key, dim)
            return await vectors.add(items, self._chunks)

    @_records_write
    async def reuse_vectors(self, key: str, dim: int, chunks: Sequence[StoredChunk]) -> tuple[set[str], int]:
        """Give chunks the vector of equal text, in one commit; returns ids that have one, and how many were added."""
        async with self._tables.locked_for_writing():
            vectors = await self._tables.vectors_for(key, dim)
            found, matrix = await vectors.vectors_of_equal_text(chunks)
            added = await vectors.add([(found, matrix)], self._chunks)
        return {chunk.chunk_id for chunk in found}, added

    @_records_write
    async def reuse_pending(self, key: str, dim: int, folder: str) -> int:
        """Give every pending chunk of a folder the vector of equal text, in bulk; returns how many got one."""
        async with self._tables.locked_for_writing():
            vectors = await self._tables.vectors_for(key, dim)
            return await reuse_all(vectors, self._chunks, escape(folder))

    @_records_write
    async def drop_vectors(self, key: str, folder: str) -> int:
        """Delete a folder's vectors of one model, in one commit; returns how many of them belonged to a chunk."""
        if key not in self._vectors:
            return 0
        async with self._tables.locked_for_writing():
            with anyio.CancelScope(shield=True):
                dropped = await self._vectors[key].drop(escape(folder))
        return dropped

    async def vector_keys(self) -> list[str]:
        """Keys of the models that have vectors here."""
        return sorted(self._vectors)

    # Searching

    @_records_read
    async def has_files(self, scope: Scope) -> bool:
        """Whether a file with text is in the scope.

        Raises:
            QueryError: The glob of the scope is malformed.
        """
        return await queries.has_files(self._chunks, scope)

    @_records_read
    async def search_text(
        self, tokens: Sequence[str], scope: Scope, limit: int, accepts: Callable[[StoredChunk], bool] | None = None
    ) -> list[Scored]:
        """Chunks that contain any of the tokens (prepared as the indexed ones were), best BM25 score first.

        ``accepts`` filters the results in a worker thread; of at most 20,000 results, so that low ranks are found too.

        Raises:
            QueryError: The glob of the scope is malformed.
        """
        return await queries.search_keyword(self._chunks, tokens, scope, limit, accepts)

    @_records_read
    async def search_vectors(
        self,
        key: str,
        dim: int,
        vector: Vector,
        scope: Scope,
        limit: int,
        accepts: Callable[[StoredChunk], bool] | None = None,
    ) -> list[Scored]:
        """Chunks nearest in meaning, highest cosine first; empty when the model has no vectors here.

        Exact below 5,000 vectors, above that by the approximate index, refined with exact distances. ``accepts`` as in
        ``search_text``.

        Raises:
            QueryError: The glob of the scope is malformed.
        """
        if self.read_only and key not in self._vectors:
            await open_vectors(self._tables.connection, self._chunks, self._vectors)
        if key not in self._vectors:
            return []
        vectors = self._tables.checked_vectors(key, dim)
        return await queries.search_semantic(self._chunks, vectors, vector, scope, limit, accepts)

    # Counts, from memory

    def chunk_count(self, folder: str) -> int:
        """Chunks of a folder."""
        return self._chunks.counts[escape(folder)]

    def embedded_count(self, key: str, folder: str) -> int:
        """Chunks of a folder that have a vector of this model."""
        return self._vectors[key].embedded[escape(folder)] if key in self._vectors else 0

    def pending_count(self, key: str, folder: str) -> int:
        """Chunks of a folder that have no vector of this model."""
        return max(0, self.chunk_count(folder) - self.embedded_count(key, folder))

    @_records_read
    async def counts(self) -> Counts:
        """These counts by folder. A read-only store reads the tables again, because another process writes them."""
        if self.read_only:
            await self._chunks.scan()
            await open_vectors(self._tables.connection, self._chunks, self._vectors)
            for vectors in self._vectors.values():
                await vectors.scan(self._chunks)
        chunks = {unescape(folder): count for folder, count in self._chunks.counts.items() if count}
        return Counts(chunks, {key: vectors.counts() for key, vectors in self._vectors.items()})

    @_records_read
    async def statistics(self) -> StoreStatistics:
        """Rows, fragments and indexes of every table as they are on disk: for tests and for measuring."""
        chunks = await statistics(self._chunks.table, self._chunks.fragmentation)
        return StoreStatistics(
            chunks, {key: await statistics(table.table, table.fragmentation) for key, table in self._vectors.items()}
        )

    # Maintenance

    def maintenance_due(self) -> bool:
        """Whether ``maintain`` pays while nothing else runs."""
        return not self.read_only and self.maintenance.due(self._chunks, self._vectors.values(), idle=True)

    def maintenance_urgent(self) -> bool:
        """Whether searches are slowed so much that ``maintain`` should run at once, beside other work."""
        return not self.read_only and self.maintenance.due(self._chunks, self._vectors.values(), idle=False)

    def maintenance_due_in(self) -> float:
        """Seconds until maintenance may be due although nothing more is written; infinite if never."""
        return math.inf if self.read_only else min(table.fragmentation.due_in() for table in self._tables.tables)

    @_records_write
    async def maintain(self, *, force: bool = False) -> None:
        """Compact the tables, grow their indexes, delete old versions; writes go in between two tables.

        With ``force`` every table, even if little has changed. Raises ``StoreError`` when a table failed or there is
        too little disk: the index keeps working, and ``maintenance_due`` is false for the next minute.
        """
        await self.maintenance.run(self._chunks, self._vectors.values(), self._tables.write_lock, force=force)

    @property
    def disk_bytes(self) -> int | None:
        """Size of the database directory when it was last measured (at opening, after maintenance)."""
        return self.maintenance.disk

    async def verify(self, *, force: bool = False) -> None:
        """Compare every file with its checksum, once a day; a difference sets ``health.damage_suspected``.

        Args:
            force: Even if it has been done today.
        """
        checksums = self._tables.connection.checksums
        if force or await anyio.to_thread.run_sync(checksums.verification_due):
            with store_errors("check the files of the index"):
                if await anyio.to_thread.run_sync(lambda: checksums.changed_files(thorough=True)):
                    self.health.damage_suspected.set()

    async def repair(self) -> None:
        """Read everything, move damaged files to quarantine, and reopen what is left; searches go on meanwhile.

        Nothing may be indexing. ``health`` says what was found, and whether the folders have to be read again.
        """
        await self._tables.repair()

    def could_write(self) -> bool:
        """Whether the index could be opened for writing now; changes nothing. Blocking: run it in a thread."""
        probe = self.directory / f".room-{os.getpid()}"
        try:
            prepare_directory(self.directory / "tables")
            probe.write_bytes(bytes(_PROBE_BYTES))
        except (OSError, StoreError):
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return is_free(self.directory / "writer.lock")

    @property
    def _chunks(self) -> ChunkTable:
        return self._tables.chunks

    @property
    def _vectors(self) -> dict[str, VectorTable]:
        return self._tables.vectors


# Opening ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_store(directory: Path | str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the index in a data directory; create it if there is none, repair it if it is damaged.

    What was repaired is in ``Store.damage``.

    Args:
        directory: The data directory; the database is in its ``tables``, quarantined files go to its ``damaged``.
        read_only: Open beside a writing process, without the lock; every write is refused.

    Raises:
        StoreBusy: Another process is the writer.
        StoreError: See ``StoreError.code``: ``unsupported`` (no hard links), ``missing`` (nothing to read yet),
            ``newer_version``, ``permission``, ``disk_full``, ``read_only``, ``damaged`` (reading only).
    """
    root = Path(directory)
    with ExitStack() as stack:
        lock: WriterLock | None = None
        if not read_only:
            lock = await anyio.to_thread.run_sync(_lock_for_writing, stack, root)
        tables = OpenTables(await connect(root, read_only=read_only), lock)
        unclean = lock is not None and lock.unclean
        await tables.load(unclean=unclean)
        for table in tables.tables:
            table.fragmentation.has_orphaned_files = unclean
        store = Store(tables)
        await store.maintenance.measure()
        yield store


def _lock_for_writing(stack: ExitStack, root: Path) -> WriterLock:
    with store_errors(f"create the data directory {root}"):
        make_directory(root)
    return stack.enter_context(WriterLock(root / "writer.lock"))
