"""``open_store``: everything between a data directory and a ``Store`` that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread

from indexer.errors import StoreError
from indexer.store import runtime
from indexer.store.chunks import ChunkTable
from indexer.store.database import Database, connect
from indexer.store.fault import explained
from indexer.store.lock import WriterLock
from indexer.store.schema import CHUNKS, FILE, chunks_schema, is_vectors
from indexer.store.store import Store
from indexer.store.vectors import VectorTable


@asynccontextmanager
async def open_store(directory: Path | str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the index in a data directory, make it if there is none, mend it if it is broken.

    The first time in a process this imports the storage library, in a thread, which takes seconds. What was mended
    is in ``Store.damage``.

    Args:
        directory: The data directory; the tables are in its ``index``, what was broken goes to its ``damaged``.
        read_only: Open beside the writer, without its lock; every write is refused.

    Raises:
        StoreBusy: Another process is the writer.
        StoreError: See ``StoreError.code``: ``unsupported`` (no hard links, or nothing to read yet),
            ``newer_version``, ``permission``, ``disk_full``, ``read_only``, ``damaged`` (reading only).
    """
    root = Path(directory)
    await anyio.to_thread.run_sync(runtime.load)
    with ExitStack() as stack:
        unclean = False
        if not read_only:
            unclean = await anyio.to_thread.run_sync(_take, stack, root)
        database = await connect(root, read_only=read_only)
        chunks = await _open_chunks(database)
        vectors = await _open_vectors(database, chunks)
        for wear in (chunks.wear, *(table.wear for table in vectors.values())):
            wear.litter = unclean
        store = Store(database, chunks, vectors)
        await store.upkeep.measure()
        yield store


def _take(stack: ExitStack, root: Path) -> bool:
    """Take the writer's lock; returns whether its last holder ended uncleanly."""
    with explained(f"create the data directory {root}"):
        root.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(WriterLock(root / "writer.lock")).unclean


async def _open_chunks(database: Database) -> ChunkTable:
    table = await database.open(CHUNKS, _probe_chunks)
    if table is None:
        if database.read_only:
            raise StoreError(f"there is no index in {database.root} yet; run folder-mcp index first", "unsupported")
        table = await database.create(CHUNKS, chunks_schema())
    chunks = ChunkTable(table)
    await chunks.scan()
    return chunks


async def _open_vectors(database: Database, chunks: ChunkTable) -> dict[str, VectorTable]:
    out: dict[str, VectorTable] = {}
    for name in await database.names():
        if is_vectors(name):
            table = await database.open(name, _probe_vectors)
            if table is not None:
                out.update([await _describe(table)])
    for vectors in out.values():
        await vectors.scan(chunks)
    return out


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
    token = (words["tokens"].to_pylist() or ["-"])[0].partition(" ")[0] or "-"
    await table.query().nearest_to_text(MatchQuery(token, "tokens")).select(["chunk_id", "_score"]).limit(5).to_arrow()


async def _probe_vectors(table: Any) -> None:
    """As ``_probe_chunks``: one search, and one vector."""
    dim = int((await table.schema()).metadata[b"dim"])
    query = table.query().nearest_to([1.0] + [0.0] * (dim - 1)).distance_type("cosine").nprobes(1).refine_factor(1)
    await query.select(["chunk_id", "_distance"]).limit(5).to_arrow()
