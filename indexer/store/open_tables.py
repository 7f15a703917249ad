"""What is open of an index: the tables, the right to write them, and the turn in which writers take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import numpy as np
from lancedb.query import MatchQuery

from indexer.errors import StoreError
from indexer.store.chunk_table import ChunkTable
from indexer.store.connection import Connection
from indexer.store.health import explained
from indexer.store.maintenance import WriteLock
from indexer.store.schema import (
    CHUNKS,
    FILE,
    FORMAT,
    chunks_schema,
    digest,
    format_of,
    is_vectors,
    missing_columns,
    vectors_name,
    vectors_schema,
    words_index,
)
from indexer.store.table import both, equals
from indexer.store.vector_table import VectorTable
from indexer.store.writer_lock import WriterLock


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
        self.turn = WriteLock()
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


# Opening tables -----------------------------------------------------------------------------------------------------
# From an open database to tables that answer, each probed so that damage shows now and not at the first search.


async def open_chunks(connection: Connection, *, thorough: bool = False) -> ChunkTable:
    """The text of the index, an empty table if there is none yet or it had to be set aside.

    Args:
        connection: The database.
        thorough: Read everything in it, not only a little.

    Raises:
        StoreError: It cannot be opened, or there is none and this store only reads.
    """
    table = await connection.open(CHUNKS, whole_chunks if thorough else probe_chunks)
    if table is None:
        if connection.read_only:
            raise StoreError(f"there is no index in {connection.root} yet; run folder-mcp index first", "missing")
        if thorough or connection.health.damage or any(map(is_vectors, await connection.names())):
            connection.health.rebuild("the text of the index was lost; it is being read from the folders again")
        table = await connection.create(CHUNKS, chunks_schema())
    elif not connection.read_only:
        await _complete(connection, table)
    chunks = ChunkTable(table)
    if thorough and (torn := await chunks.drop_torn()):
        connection.health.rebuild(f"{torn} files were not whole in the index; they are read again")
    await chunks.scan()
    return chunks


async def open_vectors(
    connection: Connection, chunks: ChunkTable, have: dict[str, VectorTable], *, thorough: bool = False
) -> None:
    """Add every model's vectors to those there are, by model key.

    Raises:
        StoreError: A table cannot be opened.
    """
    known = {vectors.table.name for vectors in have.values()}
    for name in await connection.names():
        if is_vectors(name) and name not in known:
            table = await connection.open(name, whole_vectors if thorough else probe_vectors)
            if table is not None:
                key, vectors = await _describe(table)
                await vectors.scan(chunks)
                have[key] = vectors


async def _complete(connection: Connection, table: Any) -> None:
    """Bring an index of an earlier program up to date; its rows serve until their files have been read again.

    Columns that came later are added, null in its rows. If its format is an earlier one, its files are made such that
    each is read again (no recipe is empty), and its word index is made anew. The stamp comes last: a program killed
    in the middle begins again.
    """
    with explained("bring the index up to date"):
        schema = await table.schema()
        missing = missing_columns(schema)
        if missing is not None:
            await table.add_columns(missing)
        if format_of(schema) < FORMAT:
            connection.health.rebuild("an index of an earlier folder-mcp is brought up to date, and serves meanwhile")
            await table.update({"recipe": ""}, where=f"ordinal = {FILE}")
            await table.create_index("tokens", config=words_index(), replace=True)
            await _stamp(table)


async def _stamp(table: Any) -> None:
    await table.update_field_metadata({"path": "chunk_id", "metadata": {"format": str(FORMAT)}})


async def _describe(table: Any) -> tuple[str, VectorTable]:
    with explained("read the index"):
        metadata = (await table.schema()).metadata
    key, dim = metadata[b"key"].decode(), int(metadata[b"dim"])
    return key, VectorTable(table, key, dim)


# Probing ------------------------------------------------------------------------------------------------------------
# Does a table answer, and is all of it there? Opening alone notices neither a lost file nor a changed one.

_BATCH = 4096  # rows looked at together
_UNIT = 1e-2  # how far the squared length of a stored vector may be from one


async def probe_chunks(table: Any) -> None:
    """Read a little of everything that start, search and commit read; raises what the library raises."""
    await table.query().where(f"ordinal = {FILE}").select(["path", "mtime_ns"]).to_arrow()
    columns = ["chunk_id", "path", "folder", "tokens", "text"]
    words = await table.query().where("ordinal = 0").select(columns).limit(1).to_arrow()
    token = next(iter(" ".join(filter(None, words["tokens"].to_pylist())).split()), "-")
    await table.query().nearest_to_text(MatchQuery(token, "tokens")).select(["chunk_id", "_score"]).limit(5).to_arrow()
    await _by_index(table, words, ("chunk_id", "path", "folder"))


async def probe_vectors(table: Any) -> None:
    """As ``probe_chunks``: one search, one vector, one look-up in every index."""
    dim = int((await table.schema()).metadata[b"dim"])
    query = table.query().nearest_to([1.0] + [0.0] * (dim - 1)).distance_type("cosine").nprobes(1).refine_factor(1)
    await query.select(["chunk_id", "_distance"]).limit(5).to_arrow()
    columns = ("chunk_id", "text_hash", "folder")
    await _by_index(table, await table.query().select(list(columns)).limit(1).to_arrow(), columns)


async def whole_chunks(table: Any) -> None:
    """Read every row and compare every text with its hash.

    Raises:
        StoreError: A text is not what was written; besides that what the library raises.
    """
    await probe_chunks(table)
    async for batch in await table.query().to_batches(max_batch_length=_BATCH):
        await anyio.to_thread.run_sync(_texts, batch)


async def whole_vectors(table: Any) -> None:
    """Read every row and see that every vector is of unit length.

    Raises:
        StoreError: One is not; besides that what the library raises.
    """
    await probe_vectors(table)
    async for batch in await table.query().to_batches(max_batch_length=_BATCH):
        await anyio.to_thread.run_sync(_lengths, batch)


async def _by_index(table: Any, rows: Any, columns: tuple[str, ...]) -> None:
    """Look one row up by each indexed column."""
    if rows.num_rows:
        for column in columns:
            where = both(equals(column, rows[column][0].as_py()))
            await table.query().where(where).select(["chunk_id"]).limit(1).to_arrow()


def _texts(batch: Any) -> None:
    columns = (batch[name].to_pylist() for name in ("ordinal", "heading", "text", "text_hash"))
    for ordinal, heading, text, text_hash in zip(*columns, strict=True):
        if ordinal < 0 or "\ufffd" in f"{heading}{text}":
            continue  # hashed before what no index could hold was replaced
        if digest(f"{heading}\n{text}" if heading else text) != text_hash:
            raise StoreError("a text in the index is not what was written", "damaged")


def _lengths(batch: Any) -> None:
    vectors = batch["vector"]
    if vectors.null_count:
        raise StoreError("a vector in the index is missing", "damaged")
    flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
    if not bool(np.all(np.abs(squares - 1.0) <= _UNIT)):  # written so that NaN is wrong
        raise StoreError("a vector in the index is not what was written", "damaged")
