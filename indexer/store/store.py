"""The index: files, chunks and vectors, one writer, any number of readers.

Writes are taken in turn and each is whole: no reader sees half of one, and a process killed anywhere leaves an
index that opens. Searches never wait for a write.
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
from indexer.store.connection import connect, prepare
from indexer.store.health import explained
from indexer.store.maintenance import Upkeep
from indexer.store.open_tables import Opened, open_vectors
from indexer.store.schema import Counts, Replaced, StoreStatistics, escape, plan, unescape
from indexer.store.table import statistics
from indexer.store.vector_table import VectorTable, reuse_all
from indexer.store.writer_lock import WriterLock, free
from indexer.types import FileRow, FileWrite, Matrix, Scope, Scored, StoredChunk, Vector

# Recording of errors ------------------------------------------------------------------------------------------------
# At the store's door: what every read and every write reports to ``Health``.

_PROBE_BYTES = 64 << 10  # must fit on the disk before writing is tried again

P = ParamSpec("P")
T = TypeVar("T")


def reading(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A method that reads the tables: damage it meets is noted."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.met(error)
            raise

    return guarded


def writing(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A method that writes: a reader is refused, a failure is noted as what is in the way, a success clears it."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if store.read_only:
            raise StoreError(
                f"the index in {store.directory} is open for reading only, another folder-mcp writes it", "read_only"
            )
        try:
            done = await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.refused(error)
            raise
        store.health.wrote()
        return done

    return guarded


# Store --------------------------------------------------------------------------------------------------------------


class Store:
    """An open index. Made by ``open_store``; every method is for the event loop it was opened in.

    Whatever reads or writes the tables raises ``StoreError``, and ``health`` knows of it. A write that failed has
    changed nothing, or all it was to change (the error came after the commit); doing it again is right in both cases.

    Attributes:
        directory: The data directory.
        read_only: Whether writing is refused (``StoreError`` with code ``read_only``).
        upkeep: The record of maintenance.
        health: What is wrong with the index, and what was.
    """

    def __init__(self, opened: Opened) -> None:
        self.directory = opened.connection.root
        self.read_only = opened.connection.read_only
        self.upkeep = Upkeep(opened.connection)
        self.health = opened.connection.health
        self._open = opened

    @property
    def damage(self) -> tuple[str, ...]:
        """What was found broken since the index was opened, and what became of it."""
        return tuple(self.health.damage)

    @property
    def aside(self) -> tuple[str, ...]:
        """Names of the directories in ``damaged``."""
        return self.health.aside

    # Files and their text

    @reading
    async def files(self) -> list[FileRow]:
        """The manifest: a row for every file the index knows of."""
        return await self._chunks.files()

    @reading
    async def chunks_of(self, path: str) -> list[StoredChunk]:
        """A file's chunks in order; empty when it has none or is unknown."""
        return await self._chunks.of(path)

    @reading
    async def chunks_between(self, path: str, first: int, last: int) -> list[StoredChunk]:
        """A file's chunks with ordinals from ``first`` to ``last``, in order, as far as they exist."""
        return await self._chunks.of(path, first, last)

    @writing
    async def replace(self, writes: Sequence[FileWrite]) -> Replaced:
        """Put these files in place of what the index has of them, all in one commit.

        Chunks that are the same as before keep their id and so their vector. Of two writes of one path the last
        counts. Best with 500 rows or more at once.
        """
        last = {write.row.path: write for write in writes}
        if not last:
            return Replaced(0, 0, 0, 0, ())
        async with self._open.writing():
            known = await self._chunks.known(list(last))
            step = await anyio.to_thread.run_sync(plan, list(last.values()), known)
            with anyio.CancelScope(shield=True):  # the counts must follow what the disk has
                await self._chunks.commit(step, list(last))
                for vectors in self._vectors.values():
                    await vectors.follow(step.added, step.lost)
        return Replaced(len(last), step.kept + len(step.added), step.kept, len(step.lost), step.added)

    @writing
    async def touch(self, rows: Sequence[FileRow]) -> None:
        """Rewrite the rows of files whose content is the same (a new modification time); unknown ones are ignored."""
        if rows:
            async with self._open.writing():
                with anyio.CancelScope(shield=True):
                    await self._chunks.touch(rows)

    @writing
    async def remove(self, paths: Sequence[str]) -> int:
        """Take files out, in one commit up to 5,000 files; returns how many chunks went.

        Their vectors go with the next maintenance; until then they serve equal text that turns up elsewhere, so
        that a rename embeds nothing, in whichever order its halves arrive.
        """
        async with self._open.writing():
            with anyio.CancelScope(shield=True):
                lost = await self._chunks.remove(paths)
                for vectors in self._vectors.values():
                    await vectors.follow((), lost)
        return len(lost)

    @writing
    async def remove_folder(self, folder: str) -> int:
        """Take a folder out, its text and then its vectors; returns how many chunks went."""
        async with self._open.writing():
            with anyio.CancelScope(shield=True):
                gone = await self._chunks.remove_folder(escape(folder))
                for vectors in self._vectors.values():
                    await vectors.drop(escape(folder))
        return gone

    # Vectors

    @writing
    async def pending(self, key: str, dim: int, folder: str, limit: int | None = None) -> list[StoredChunk]:
        """Chunks of a folder that have no vector of this model: the embedding queue, derived from the tables.

        Asking again without adding vectors gives the same chunks. Without a limit the text of all is in memory.
        """
        async with self._open.writing():  # a write in the middle of comparing the tables would be missed
            vectors = await self._open.table_of(key, dim)
            await vectors.backlog(escape(folder), self._chunks)
        return await vectors.waiting(escape(folder), self._chunks, limit)

    @writing
    async def add_vectors(self, key: str, dim: int, items: Sequence[tuple[Sequence[StoredChunk], Matrix]]) -> int:
        """Append vectors in one commit; returns how many serve (the others' chunks are gone, or had one already).

        Items are chunks as ``pending`` or ``replace`` gave them, with a row of the matrix for each. A vector that is
        not finite or not of unit length is refused, and all with it.
        """
        async with self._open.writing():
            vectors = await self._open.table_of(key, dim)
            return await vectors.add(items, self._chunks)

    @writing
    async def reuse_vectors(self, key: str, dim: int, chunks: Sequence[StoredChunk]) -> tuple[set[str], int]:
        """Give chunks the vector of equal text, in one commit; returns who has one now, and how many had none."""
        async with self._open.writing():
            vectors = await self._open.table_of(key, dim)
            twins = await vectors.twins(chunks)
            added = await vectors.add([twins], self._chunks)
        return {chunk.chunk_id for chunk in twins[0]}, added

    @writing
    async def reuse_pending(self, key: str, dim: int, folder: str) -> int:
        """Give every waiting chunk of a folder the vector of equal text, in bulk; returns how many got one."""
        async with self._open.writing():
            vectors = await self._open.table_of(key, dim)
            return await reuse_all(vectors, self._chunks, escape(folder))

    @writing
    async def drop_vectors(self, key: str, folder: str) -> int:
        """Delete a folder's vectors of one model, in one commit; returns how many served a chunk."""
        if key not in self._vectors:
            return 0
        async with self._open.writing():
            with anyio.CancelScope(shield=True):
                dropped = await self._vectors[key].drop(escape(folder))
        return dropped

    async def vector_keys(self) -> list[str]:
        """Keys of the models that have vectors here."""
        return sorted(self._vectors)

    # Searching

    @reading
    async def search_text(
        self, tokens: Sequence[str], scope: Scope, limit: int, passes: Callable[[StoredChunk], bool] | None = None
    ) -> list[Scored]:
        """Chunks that hold any of the tokens (prepared as the indexed ones were), best BM25 score first.

        With ``passes`` only those it takes, however far down they stand (20,000 are looked at, in a thread).

        Raises:
            QueryError: The glob of the scope is malformed.
        """
        return await queries.search_words(self._chunks, tokens, scope, limit, passes)

    @reading
    async def search_vectors(
        self,
        key: str,
        dim: int,
        vector: Vector,
        scope: Scope,
        limit: int,
        passes: Callable[[StoredChunk], bool] | None = None,
    ) -> list[Scored]:
        """Chunks nearest in meaning, highest cosine first; empty when the model has no vectors here.

        Exact below 5,000 vectors, above that by the approximate index, refined with exact distances. With ``passes``
        only those it takes, as ``search_text``.

        Raises:
            QueryError: The glob of the scope is malformed.
        """
        if self.read_only and key not in self._vectors:
            await open_vectors(self._open.connection, self._chunks, self._vectors)
        if key not in self._vectors:
            return []
        vectors = self._open.fitting(key, dim)
        return await queries.search_meaning(self._chunks, vectors, vector, scope, limit, passes)

    # State, from memory

    def chunk_count(self, folder: str) -> int:
        """Chunks of a folder."""
        return self._chunks.counts[escape(folder)]

    def embedded_count(self, key: str, folder: str) -> int:
        """Chunks of a folder that have a vector of this model."""
        return self._vectors[key].embedded[escape(folder)] if key in self._vectors else 0

    def pending_count(self, key: str, folder: str) -> int:
        """Chunks of a folder that have none."""
        return max(0, self.chunk_count(folder) - self.embedded_count(key, folder))

    @reading
    async def counts(self) -> Counts:
        """All of these by folder; a reader looks at the tables, whose writer is elsewhere."""
        if self.read_only:
            await self._chunks.scan()
            await open_vectors(self._open.connection, self._chunks, self._vectors)
            for vectors in self._vectors.values():
                await vectors.scan(self._chunks)
        chunks = {unescape(folder): count for folder, count in self._chunks.counts.items() if count}
        return Counts(chunks, {key: vectors.counts() for key, vectors in self._vectors.items()})

    @reading
    async def statistics(self) -> StoreStatistics:
        """Rows, fragments and indexes of every table as they are on disk: for tests and for measuring."""
        chunks = await statistics(self._chunks.table, self._chunks.wear)
        return StoreStatistics(
            chunks, {key: await statistics(table.table, table.wear) for key, table in self._vectors.items()}
        )

    # Upkeep

    def due(self) -> bool:
        """Whether ``maintain`` is worth its time while nothing else is going on."""
        return not self.read_only and self.upkeep.due(self._chunks, self._vectors.values(), idle=True)

    def urgent(self) -> bool:
        """Whether searches suffer so much that ``maintain`` should not wait for rest."""
        return not self.read_only and self.upkeep.due(self._chunks, self._vectors.values(), idle=False)

    def due_in(self) -> float:
        """Seconds until maintenance may be due although nothing more is written; infinite if never."""
        return math.inf if self.read_only else min(table.wear.again() for table in self._open.tables)

    @writing
    async def maintain(self, *, force: bool = False) -> None:
        """Put the tables in order: compaction, indexes, old versions; a table a turn, writes go in between.

        With ``force`` every table, even if little has changed. Raises ``StoreError`` when some table could not be
        done or there is too little disk: the index works on without, and it is not ``due`` again for a minute.
        """
        await self.upkeep.run(self._chunks, self._vectors.values(), self._open.turn, force=force)

    @property
    def disk_bytes(self) -> int | None:
        """Size of the database directory when it was last measured (at opening, after maintenance)."""
        return self.upkeep.disk

    async def verify(self, *, force: bool = False) -> None:
        """Read every file and see that it is what it was, once a day; ``health.doubted`` is set if one is not.

        Args:
            force: Even if it has been done today.
        """
        sums = self._open.connection.sums
        if force or await anyio.to_thread.run_sync(sums.stale):
            with explained("check the files of the index"):
                if await anyio.to_thread.run_sync(lambda: sums.bad(thorough=True)):
                    self.health.doubted.set()

    async def mend(self) -> None:
        """Read everything, set aside what is bad, and go on with what is left; searches go on meanwhile.

        Nobody may be indexing. ``health`` says what was found, and whether the folders have to be read again.
        """
        await self._open.mend()

    def could_write(self) -> bool:
        """Whether the index could be opened for writing now; changes nothing. Blocking: run it in a thread."""
        probe = self.directory / f".room-{os.getpid()}"
        try:
            prepare(self.directory / "tables")
            probe.write_bytes(bytes(_PROBE_BYTES))
        except (OSError, StoreError):
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return free(self.directory / "writer.lock")

    @property
    def _chunks(self) -> ChunkTable:
        return self._open.chunks

    @property
    def _vectors(self) -> dict[str, VectorTable]:
        return self._open.vectors


# Opening ------------------------------------------------------------------------------------------------------------
# ``open_store``: everything between a data directory and a ``Store`` that answers.


@asynccontextmanager
async def open_store(directory: Path | str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the index in a data directory, make it if there is none, mend it if it is broken.

    What was repaired is in ``Store.damage``.

    Args:
        directory: The data directory; the database is in its ``tables``, what was broken goes to its ``damaged``.
        read_only: Open beside the writer, without its lock; every write is refused.

    Raises:
        StoreBusy: Another process is the writer.
        StoreError: See ``StoreError.code``: ``unsupported`` (no hard links), ``missing`` (nothing to read yet),
            ``newer_version``, ``permission``, ``disk_full``, ``read_only``, ``damaged`` (reading only).
    """
    root = Path(directory)
    with ExitStack() as stack:
        lock: WriterLock | None = None
        if not read_only:
            lock = await anyio.to_thread.run_sync(_take, stack, root)
        opened = Opened(await connect(root, read_only=read_only), lock)
        unclean = lock is not None and lock.unclean
        await opened.load(unclean=unclean)
        for table in opened.tables:
            table.wear.litter = unclean
        store = Store(opened)
        await store.upkeep.measure()
        yield store


def _take(stack: ExitStack, root: Path) -> WriterLock:
    """Take the writer's lock."""
    with explained(f"create the data directory {root}"):
        root.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(WriterLock(root / "writer.lock"))
