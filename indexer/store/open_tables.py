"""The open tables of an index: opened, probed, upgraded and verified; the writer lock and the write lock."""

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
from indexer.store.health import store_errors
from indexer.store.maintenance import WriteLock
from indexer.store.schema import (
    CHUNKS,
    FILE,
    FORMAT,
    chunks_schema,
    format_of,
    hash_of,
    is_vectors,
    later_columns,
    text_index,
    vectors_name,
    vectors_schema,
)
from indexer.store.table import all_of, equals
from indexer.store.vector_table import VectorTable
from indexer.store.writer_lock import WriterLock


class OpenTables:
    """The open tables.

    Attributes:
        connection: The database they are in.
        chunks: Files and their text.
        vectors: Model key -> its vectors.
        write_lock: Orders the writers of this process.
    """

    def __init__(self, connection: Connection, lock: WriterLock | None) -> None:
        self.connection = connection
        self.vectors: dict[str, VectorTable] = {}
        self.write_lock = WriteLock()
        self._lock = lock
        self.chunks: ChunkTable

    async def load(self, *, thorough: bool = False, unclean: bool = False) -> None:
        """Open the tables, in place of those that are open, after moving files that changed on disk to quarantine.

        Args:
            thorough: Read everything.
            unclean: The last writer was killed. The storage library may have caused that: some damage makes it abort
                the process. So that this does not happen again, the files are compared with their checksums before
                the library sees them.

        Raises:
            StoreError: They cannot be opened; those that were open stay.
        """
        if not self.connection.read_only:
            found = await self.connection.quarantine(thorough=thorough or unclean)
            # The damage was in no file with a checksum, or came again soon after a repair: rebuild all search indexes.
            if thorough and (self.connection.health.damage_returned or not found):
                self.connection.suspect_tables.update(await self.connection.names())
        chunks, vectors = await open_chunks(self.connection, thorough=thorough), dict[str, VectorTable]()
        await open_vectors(self.connection, chunks, vectors, thorough=thorough)
        self.chunks, self.vectors = chunks, vectors
        for table in self.tables:
            table.fragmentation.erased = self.connection.checksums.erased.get(table.table.name, 0.0)

    @property
    def tables(self) -> tuple[ChunkTable | VectorTable, ...]:
        """All of them."""
        return (self.chunks, *self.vectors.values())

    async def repair(self) -> None:
        """Reopen everything, read all of it, and move damaged files to quarantine.

        Raises:
            StoreError: The disk refuses, or the directory was deleted and another process has created it again.
        """
        async with self.write_lock:
            if self._lock is not None:
                await anyio.to_thread.run_sync(self._lock.renew)
            await self.connection.renew()
            await self.load(thorough=True)
            self.connection.health.record_repair()

    @asynccontextmanager
    async def locked_for_writing(self) -> AsyncIterator[None]:
        """Hold the write lock, with counts that are those of the tables."""
        async with self.write_lock:
            if not self.connection.health.counts_valid:
                await self.chunks.recount()
                for vectors in self.vectors.values():
                    await vectors.recount(self.chunks)
                self.connection.health.counts_valid = True
            yield

    async def vectors_for(self, key: str, dim: int) -> VectorTable:
        """The vectors of a model, in a new table if there is none; call it with the write lock held.

        Raises:
            StoreError: The table cannot be created, or its vectors are of another dimension.
        """
        if key not in self.vectors:
            table = await self.connection.create(vectors_name(key), vectors_schema(key, dim))
            self.vectors[key] = VectorTable(table, key, dim)
        return self.checked_vectors(key, dim)

    def checked_vectors(self, key: str, dim: int) -> VectorTable:
        """The existing vectors of a model, checked for their dimension.

        Raises:
            StoreError: They are of another dimension.
        """
        vectors = self.vectors[key]
        if vectors.dim != dim:
            raise StoreError(f"model key {key!r} has vectors of {vectors.dim} dimensions in the index, not of {dim}")
        return vectors


# Opening tables -----------------------------------------------------------------------------------------------------
# Each table is probed, so that damage shows now and not at the first search.


async def open_chunks(connection: Connection, *, thorough: bool = False) -> ChunkTable:
    """Open the text of the index; create an empty table if there is none or it had to go to quarantine.

    Args:
        connection: The database.
        thorough: Read everything in it, not only a little.

    Raises:
        StoreError: It cannot be opened, or there is none and this store only reads.
    """
    table = await connection.open(CHUNKS, verify_chunks if thorough else probe_chunks)
    if table is None:
        if connection.read_only:
            raise StoreError(f"there is no index in {connection.root} yet; run folder-mcp index first", "missing")
        if thorough or connection.health.damage or any(map(is_vectors, await connection.names())):
            connection.health.request_rebuild(
                "the text of the index was lost; it is being read from the folders again"
            )
        table = await connection.create(CHUNKS, chunks_schema())
    elif not connection.read_only:
        await _upgrade(connection, table)
    chunks = ChunkTable(table)
    if thorough and (incomplete := await chunks.delete_incomplete_files()):
        connection.health.request_rebuild(f"{incomplete} files were not whole in the index; they are read again")
    await chunks.scan()
    return chunks


async def open_vectors(
    connection: Connection, chunks: ChunkTable, have: dict[str, VectorTable], *, thorough: bool = False
) -> None:
    """Open the tables of vectors that are not in ``have`` yet, and add them to it.

    Raises:
        StoreError: A table cannot be opened.
    """
    known = {vectors.table.name for vectors in have.values()}
    for name in await connection.names():
        if is_vectors(name) and name not in known:
            table = await connection.open(name, verify_vectors if thorough else probe_vectors)
            if table is not None:
                key, vectors = await _describe(table)
                await vectors.scan(chunks)
                have[key] = vectors


async def _upgrade(connection: Connection, table: Any) -> None:
    """Upgrade an index of an earlier program; its rows are searched until their files have been read again.

    Missing columns are added, null in the existing rows. If its format is older, every file is marked to be read again
    (an empty recipe equals none), and its full-text index is rebuilt. The new format number is written last: a process
    killed in between starts over.
    """
    with store_errors("bring the index up to date"):
        schema = await table.schema()
        missing = later_columns(schema)
        if missing is not None:
            await table.add_columns(missing)
        if format_of(schema) < FORMAT:
            connection.health.request_rebuild(
                "an index of an earlier folder-mcp is brought up to date, and serves meanwhile"
            )
            await table.update({"recipe": ""}, where=f"ordinal = {FILE}")
            await table.create_index("tokens", config=text_index(), replace=True)
            await _stamp(table)


async def _stamp(table: Any) -> None:
    await table.update_field_metadata({"path": "chunk_id", "metadata": {"format": str(FORMAT)}})


async def _describe(table: Any) -> tuple[str, VectorTable]:
    with store_errors("read the index"):
        metadata = (await table.schema()).metadata
    key, dim = metadata[b"key"].decode(), int(metadata[b"dim"])
    return key, VectorTable(table, key, dim)


# Probing ------------------------------------------------------------------------------------------------------------
# Opening a table alone notices neither a lost file nor a changed one.

_BATCH = 4096  # rows verified together
_LENGTH_TOLERANCE = 1e-2  # how far the squared length of a stored vector may be from one


async def probe_chunks(table: Any) -> None:
    """Read a little of everything that start, search and commit read; raises the exceptions of the library."""
    await table.query().where(f"ordinal = {FILE}").select(["path", "mtime_ns"]).to_arrow()
    columns = ["chunk_id", "path", "folder", "tokens", "text"]
    rows = await table.query().where("ordinal = 0").select(columns).limit(1).to_arrow()
    token = next(iter(" ".join(filter(None, rows["tokens"].to_pylist())).split()), "-")
    await table.query().nearest_to_text(MatchQuery(token, "tokens")).select(["chunk_id", "_score"]).limit(5).to_arrow()
    await _probe_indexes(table, rows, ("chunk_id", "path", "folder"))


async def probe_vectors(table: Any) -> None:
    """As ``probe_chunks``: one search, one vector, one query of every index."""
    dim = int((await table.schema()).metadata[b"dim"])
    query = table.query().nearest_to([1.0] + [0.0] * (dim - 1)).distance_type("cosine").nprobes(1).refine_factor(1)
    await query.select(["chunk_id", "_distance"]).limit(5).to_arrow()
    columns = ("chunk_id", "text_hash", "folder")
    await _probe_indexes(table, await table.query().select(list(columns)).limit(1).to_arrow(), columns)


async def verify_chunks(table: Any) -> None:
    """Read every row and compare every text with its hash.

    Raises:
        StoreError: A text is not what was written. Also raises the exceptions of the library.
    """
    await probe_chunks(table)
    async for batch in await table.query().to_batches(max_batch_length=_BATCH):
        await anyio.to_thread.run_sync(_verify_texts, batch)


async def verify_vectors(table: Any) -> None:
    """Read every row and check that every vector is of unit length.

    Raises:
        StoreError: One is not. Also raises the exceptions of the library.
    """
    await probe_vectors(table)
    async for batch in await table.query().to_batches(max_batch_length=_BATCH):
        await anyio.to_thread.run_sync(_verify_lengths, batch)


async def _probe_indexes(table: Any, rows: Any, columns: tuple[str, ...]) -> None:
    """Query one row by each indexed column."""
    if rows.num_rows:
        for column in columns:
            where = all_of(equals(column, rows[column][0].as_py()))
            await table.query().where(where).select(["chunk_id"]).limit(1).to_arrow()


def _verify_texts(batch: Any) -> None:
    columns = (batch[name].to_pylist() for name in ("ordinal", "heading", "text", "text_hash"))
    for ordinal, heading, text, text_hash in zip(*columns, strict=True):
        if ordinal < 0 or "\ufffd" in f"{heading}{text}":
            continue  # the hash is of the text before surrogates were replaced
        if hash_of(f"{heading}\n{text}" if heading else text) != text_hash:
            raise StoreError("a text in the index is not what was written", "damaged")


def _verify_lengths(batch: Any) -> None:
    vectors = batch["vector"]
    if vectors.null_count:
        raise StoreError("a vector in the index is missing", "damaged")
    flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
    if not bool(np.all(np.abs(squares - 1.0) <= _LENGTH_TOLERANCE)):  # written so that NaN is wrong
        raise StoreError("a vector in the index is not what was written", "damaged")
