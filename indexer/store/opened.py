"""What is open of an index: the tables, the right to write them, and the turn in which writers take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread

from indexer.errors import StoreError
from indexer.store.chunks import ChunkTable
from indexer.store.connection import Connection
from indexer.store.loading import open_chunks, open_vectors
from indexer.store.lock import WriterLock
from indexer.store.schema import vectors_name, vectors_schema
from indexer.store.turn import Turn
from indexer.store.vectors import VectorTable


class Opened:
    """The open tables.

    Attributes:
        connection: The database they are in.
        chunks: Files and their text.
        vectors: Model key -> its vectors.
        turn: Held by whoever writes.
    """

    def __init__(self, connection: Connection, lock: WriterLock | None) -> None:
        self.connection = connection
        self.vectors: dict[str, VectorTable] = {}
        self.turn = Turn()
        self._lock = lock
        self.chunks: ChunkTable

    async def load(self, *, thorough: bool = False, unclean: bool = False) -> None:
        """Open the tables, in place of those that are open, after setting aside what has changed on disk.

        Args:
            thorough: Read everything.
            unclean: The last writer was killed. The storage library may have done it: some damage makes it abort the
                process, which must not happen again. So the files are read and compared before it sees them.

        Raises:
            StoreError: They cannot be opened; those that were open stay.
        """
        if not self.connection.read_only:
            found = await self.connection.quarantine(thorough=thorough or unclean)
            # What was met has gone meanwhile, perhaps with an old version; or it was met again soon after a repair.
            if thorough and (self.connection.health.stubborn or not found):
                self.connection.suspects.update(await self.connection.names())
        chunks, vectors = await open_chunks(self.connection, thorough=thorough), dict[str, VectorTable]()
        await open_vectors(self.connection, chunks, vectors, thorough=thorough)
        self.chunks, self.vectors = chunks, vectors
        for table in self.tables:
            table.wear.erased = self.connection.sums.erased.get(table.table.name, 0.0)

    @property
    def tables(self) -> tuple[ChunkTable | VectorTable, ...]:
        """All of them."""
        return (self.chunks, *self.vectors.values())

    async def mend(self) -> None:
        """Open everything anew, read all of it, and set aside what is bad.

        Raises:
            StoreError: The disk refuses, or another process has taken the place of a directory that was deleted.
        """
        async with self.turn:
            if self._lock is not None:
                await anyio.to_thread.run_sync(self._lock.renew)
            await self.connection.renew()
            await self.load(thorough=True)
            self.connection.health.mended()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """A turn at writing, with counts that are those of the tables."""
        async with self.turn:
            if not self.connection.health.counted:
                await self.chunks.recount()
                for vectors in self.vectors.values():
                    await vectors.recount(self.chunks)
                self.connection.health.counted = True
            yield

    async def table_of(self, key: str, dim: int) -> VectorTable:
        """The vectors of a model, with a new table if there is none; to be called in a turn.

        Raises:
            StoreError: The table cannot be made, or its vectors are of another dimension.
        """
        if key not in self.vectors:
            table = await self.connection.create(vectors_name(key), vectors_schema(key, dim))
            self.vectors[key] = VectorTable(table, key, dim)
        return self.fitting(key, dim)

    def fitting(self, key: str, dim: int) -> VectorTable:
        """The vectors of a model that has some.

        Raises:
            StoreError: They are of another dimension.
        """
        vectors = self.vectors[key]
        if vectors.dim != dim:
            raise StoreError(f"model key {key!r} has vectors of {vectors.dim} dimensions in the index, not of {dim}")
        return vectors
