"""From an open database to tables that answer, each probed so that damage shows now and not at the first search."""

from __future__ import annotations

from typing import Any

from indexer.errors import StoreError
from indexer.store.chunks import ChunkTable
from indexer.store.connection import Connection
from indexer.store.fault import explained
from indexer.store.schema import CHUNKS, FILE, chunks_schema, is_vectors, missing_columns
from indexer.store.vectors import VectorTable


async def open_chunks(connection: Connection) -> ChunkTable:
    """The text of the index, an empty table if there is none yet.

    Raises:
        StoreError: It cannot be opened, or there is none and this store only reads.
    """
    table = await connection.open(CHUNKS, _probe_chunks)
    if table is None:
        if connection.read_only:
            raise StoreError(f"there is no index in {connection.root} yet; run folder-mcp index first", "unsupported")
        table = await connection.create(CHUNKS, chunks_schema())
    elif not connection.read_only:
        await _complete(table)
    chunks = ChunkTable(table)
    await chunks.scan()
    return chunks


async def open_vectors(connection: Connection, chunks: ChunkTable, have: dict[str, VectorTable]) -> None:
    """Add every model's vectors to those there are, by model key.

    Raises:
        StoreError: A table cannot be opened.
    """
    known = {vectors.table.name for vectors in have.values()}
    for name in await connection.names():
        if is_vectors(name) and name not in known:
            table = await connection.open(name, _probe_vectors)
            if table is not None:
                key, vectors = await _describe(table)
                await vectors.scan(chunks)
                have[key] = vectors


async def _complete(table: Any) -> None:
    """Add the columns that an index of an earlier program does not have; they are null in its rows."""
    with explained("bring the index up to date"):
        missing = missing_columns(await table.schema())
        if missing is not None:
            await table.add_columns(missing)


async def _describe(table: Any) -> tuple[str, VectorTable]:
    with explained("read the index"):
        metadata = (await table.schema()).metadata
    key, dim = metadata[b"key"].decode(), int(metadata[b"dim"])
    return key, VectorTable(table, key, dim)


async def _probe_chunks(table: Any) -> None:
    """Read a little of everything that start and search read: opening alone would not notice a lost file."""
    from lancedb.query import MatchQuery  # noqa: PLC0415

    await table.query().where(f"ordinal = {FILE}").select(["path", "mtime_ns"]).to_arrow()
    words = await table.query().where("ordinal = 0").select(["tokens", "text"]).limit(1).to_arrow()
    token = next(iter(" ".join(filter(None, words["tokens"].to_pylist())).split()), "-")
    await table.query().nearest_to_text(MatchQuery(token, "tokens")).select(["chunk_id", "_score"]).limit(5).to_arrow()


async def _probe_vectors(table: Any) -> None:
    """As ``_probe_chunks``: one search, and one vector."""
    dim = int((await table.schema()).metadata[b"dim"])
    query = table.query().nearest_to([1.0] + [0.0] * (dim - 1)).distance_type("cosine").nprobes(1).refine_factor(1)
    await query.select(["chunk_id", "_distance"]).limit(5).to_arrow()
