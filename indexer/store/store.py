"""The index: files, chunks and vectors, one writer, any number of readers.

Writes are taken in turn and each is whole: no reader sees half of one, and a process killed anywhere leaves an
index that opens. Reads never wait for a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from indexer.errors import StoreError
from indexer.store import queries
from indexer.store.chunks import ChunkTable
from indexer.store.database import Database
from indexer.store.maintenance import Upkeep
from indexer.store.paths import escape, unescape
from indexer.store.rows import plan
from indexer.store.schema import vectors_name, vectors_schema
from indexer.store.vectors import VectorTable
from indexer.types import FileRow, FileWrite, Matrix, Scope, Scored, StoredChunk, Vector


@dataclass(frozen=True, slots=True)
class Replaced:
    """What one commit changed.

    Attributes:
        files: Files written.
        chunks: Chunks they have now.
        kept: Those of them the index had before (their vectors stay valid).
        removed: Chunks that went.
        added: The chunks that are new, as stored.
    """

    files: int
    chunks: int
    kept: int
    removed: int
    added: tuple[StoredChunk, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is indexed.

    Attributes:
        chunks: Folder -> chunks.
        embedded: Model key -> folder -> chunks that have a vector of this model.
    """

    chunks: dict[str, int]
    embedded: dict[str, dict[str, int]]


class Store:
    """An open index. Made by ``open_store``; every method is for the event loop it was opened in.

    Attributes:
        directory: The data directory.
        read_only: Whether writing is refused.
        upkeep: Maintenance and its record.
    """

    def __init__(self, database: Database, chunks: ChunkTable, vectors: dict[str, VectorTable]) -> None:
        self.directory = database.root
        self.read_only = database.read_only
        self.upkeep = Upkeep(database.place)
        self._database = database
        self._chunks = chunks
        self._vectors = vectors
        self._turn = anyio.Lock()

    @property
    def damage(self) -> tuple[str, ...]:
        """What was found broken when the index was opened, and what became of it."""
        return tuple(self._database.damage)

    # Files and text

    async def files(self) -> list[FileRow]:
        """The manifest: a row for every file the index knows of.

        Raises:
            StoreError: The index cannot be read.
        """
        return await self._chunks.files()

    async def chunks_of(self, path: str) -> list[StoredChunk]:
        """A file's chunks in order; empty when it has none or is unknown.

        Raises:
            StoreError: The index cannot be read.
        """
        return await self._chunks.of(path)

    async def replace(self, writes: Sequence[FileWrite]) -> Replaced:
        """Put these files in place of what the index has of them, all in one commit.

        Chunks that are the same as before keep their id and so their vector. Of two writes of one path the last
        counts. Best with 500 rows or more at once.

        Raises:
            StoreError: Nothing was written.
        """
        self._may_write()
        last = {write.row.path: write for write in writes}
        if not last:
            return Replaced(0, 0, 0, 0, ())
        async with self._turn:
            known = await self._chunks.known(list(last))
            step = await anyio.to_thread.run_sync(plan, list(last.values()), known)
            with anyio.CancelScope(shield=True):  # counts must follow what the disk has
                await self._chunks.commit(step, list(last))
                for vectors in self._vectors.values():
                    await vectors.follow(step.added, step.lost)
        total = step.kept + len(step.added)
        return Replaced(len(last), total, step.kept, len(step.lost), step.added)

    async def touch(self, rows: Sequence[FileRow]) -> None:
        """Rewrite the rows of files whose content is the same (a new modification time); unknown files are ignored.

        Raises:
            StoreError: Nothing was written.
        """
        self._may_write()
        if rows:
            async with self._turn:
                with anyio.CancelScope(shield=True):
                    await self._chunks.touch(rows)

    async def remove(self, paths: Sequence[str]) -> int:
        """Take files out, in one commit; returns how many chunks went.

        Their vectors serve equal text that turns up elsewhere (a rename) until the next maintenance deletes them.

        Raises:
            StoreError: Nothing was removed.
        """
        self._may_write()
        async with self._turn:
            with anyio.CancelScope(shield=True):
                lost = await self._chunks.remove(paths)
                for vectors in self._vectors.values():
                    await vectors.follow((), lost)
        return len(lost)

    async def remove_folder(self, folder: str) -> int:
        """Take a folder out, text first, then its vectors; returns how many chunks went.

        Raises:
            StoreError: Not everything was removed; asking again goes on.
        """
        self._may_write()
        async with self._turn:
            with anyio.CancelScope(shield=True):
                gone = await self._chunks.remove_folder(escape(folder))
                for vectors in self._vectors.values():
                    await vectors.drop(escape(folder))
        return gone

    # Vectors

    async def pending(self, key: str, dim: int, folder: str, limit: int | None = None) -> list[StoredChunk]:
        """Chunks of a folder that have no vector of this model: the embedding queue, derived from the tables.

        Asking again without adding vectors gives the same chunks.

        Args:
            key: Model key.
            dim: Its dimension.
            folder: The root.
            limit: At most so many; None for all (their text is in memory then).

        Raises:
            StoreError: The index cannot be read.
        """
        self._may_write()
        vectors = await self._table_of(key, dim)
        async with self._turn:  # a write in the middle of the comparison would be missed
            await vectors.backlog(escape(folder), self._chunks)
        return await vectors.waiting(escape(folder), self._chunks, limit)

    async def count_pending(self, key: str, folder: str) -> int:
        """How many chunks of a folder have no vector of this model; answered from memory."""
        counts = await self.counts()
        return counts.chunks.get(folder, 0) - counts.embedded.get(key, {}).get(folder, 0)

    async def add_vectors(self, key: str, dim: int, chunks: Sequence[StoredChunk], matrix: Matrix) -> int:
        """Append vectors in one commit; returns how many served (others have gone, or had one already).

        Args:
            key: Model key.
            dim: Its dimension.
            chunks: What was embedded, as ``pending`` or ``replace`` gave it.
            matrix: A row for each chunk.

        Raises:
            StoreError: Nothing was written; the vectors are not finite, not of unit length, or the disk refused.
        """
        self._may_write()
        vectors = await self._table_of(key, dim)
        async with self._turn:
            return await vectors.add(chunks, matrix, self._chunks)

    async def reuse_vectors(self, key: str, dim: int, chunks: Sequence[StoredChunk]) -> set[str]:
        """Give chunks the vector of equal text that has one, in one commit; returns the ids served.

        Raises:
            StoreError: Nothing was written.
        """
        self._may_write()
        vectors = await self._table_of(key, dim)
        if not chunks or not (vectors.embedded.total() or vectors.orphans):
            return set()
        async with self._turn:
            served, matrix = await vectors.twins(chunks)
            if served:
                await vectors.add(served, matrix, self._chunks)
        return {chunk.chunk_id for chunk in served}

    async def drop_vectors(self, key: str, folder: str) -> int:
        """Delete a folder's vectors of one model, in one commit; returns how many served a chunk.

        Raises:
            StoreError: Nothing was deleted.
        """
        self._may_write()
        if key not in self._vectors:
            return 0
        async with self._turn:
            with anyio.CancelScope(shield=True):
                dropped = await self._vectors[key].drop(escape(folder))
        return dropped

    async def vector_keys(self) -> list[str]:
        """Keys of the models that have vectors here."""
        return sorted(self._vectors)

    # Searching

    async def search_text(self, tokens: Sequence[str], scope: Scope, limit: int) -> list[Scored]:
        """Chunks that hold any of the tokens (prepared as the indexed ones were), best BM25 score first.

        Raises:
            QueryError: The glob of the scope is malformed.
            StoreError: The index cannot be read.
        """
        return await queries.search_words(self._chunks, tokens, scope, limit)

    async def search_vectors(self, key: str, dim: int, vector: Vector, scope: Scope, limit: int) -> list[Scored]:
        """Chunks nearest in meaning, highest cosine first; empty when the model has no vectors here.

        Exact below 5,000 vectors, above that by the approximate index, refined with exact distances.

        Raises:
            QueryError: The glob of the scope is malformed.
            StoreError: The index cannot be read, or the vector's dimension is not the table's.
        """
        if key not in self._vectors:
            return []
        vectors = await self._table_of(key, dim)
        return await queries.search_meaning(self._chunks, vectors, vector, scope, limit)

    # State

    async def counts(self) -> Counts:
        """Chunks and vectors by folder, from memory."""
        chunks = {unescape(folder): count for folder, count in self._chunks.counts.items() if count}
        return Counts(chunks, {key: vectors.counts() for key, vectors in self._vectors.items()})

    def due(self, *, idle: bool = False) -> bool:
        """Whether ``maintain`` would do something worth its time; earlier when nothing else is running."""
        return not self.read_only and self.upkeep.due(self._chunks, self._vectors.values(), idle=idle)

    async def maintain(self, *, force: bool = False) -> None:
        """Put the tables in order: compaction, indexes, old versions; a table at a time, writes go in between.

        What failed or was skipped is in ``upkeep`` and does not raise: the index works on without. Cancelling is
        safe.

        Args:
            force: Do it for every table even if little has changed.

        Raises:
            StoreError: The store is read-only.
        """
        self._may_write()
        await self.upkeep.run(self._chunks, self._vectors.values(), self._turn, force=force)

    async def disk_bytes(self) -> int:
        """Size of the database directory, bytes."""
        return await self.upkeep.measure()

    def _may_write(self) -> None:
        if self.read_only:
            raise StoreError(
                f"the index in {self.directory} is open for reading only, another folder-mcp writes it", "read_only"
            )

    async def _table_of(self, key: str, dim: int) -> VectorTable:
        """The vectors of a model, with a new table if there is none (writers only)."""
        if key not in self._vectors:
            async with self._turn:
                if key not in self._vectors:
                    table = await self._database.create(vectors_name(key), vectors_schema(key, dim))
                    self._vectors[key] = VectorTable(table, key, dim)
        vectors = self._vectors[key]
        if vectors.dim != dim:
            raise StoreError(f"model key {key!r} has vectors of {vectors.dim} dimensions in the index, not of {dim}")
        return vectors
