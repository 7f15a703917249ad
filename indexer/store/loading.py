"""From an open database to tables that answer, each probed so that damage shows now and not at the first search."""

from __future__ import annotations

from typing import Any

from indexer.errors import StoreError
from indexer.store.chunks import ChunkTable
from indexer.store.connection import Connection
from indexer.store.fault import explained
from indexer.store.probing import probe_chunks, probe_vectors, whole_chunks, whole_vectors
from indexer.store.schema import (
    CHUNKS,
    FILE,
    FORMAT,
    chunks_schema,
    format_of,
    is_vectors,
    missing_columns,
    words_index,
)
from indexer.store.vectors import VectorTable


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
