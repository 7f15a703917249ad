"""Vectors for text that the index has seen before, for a whole folder at once."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from indexer.store.chunks import ChunkTable
from indexer.store.tables import select
from indexer.store.vectors import VectorTable

_BATCH = 2000  # chunks a commit


async def reuse_all(vectors: VectorTable, chunks: ChunkTable, folder: str) -> int:
    """Give the waiting chunks of an (escaped) folder the vector of equal text; returns how many got one.

    Compares hashes in Arrow memory (about 150 bytes a chunk) and reads text only of the chunks served.

    Raises:
        StoreError: A table cannot be read or written; what was committed stays.
    """
    if not (vectors.orphans or vectors.embedded.total()):
        return 0
    have = await select(vectors.table, ("chunk_id", "text_hash"))
    ids = await anyio.to_thread.run_sync(_servable, await chunks.texts(folder), have)
    served = 0
    for at in range(0, len(ids), _BATCH):
        alive = await chunks.fetch(ids[at : at + _BATCH])
        served += await vectors.add([await vectors.twins(list(alive.values()))], chunks)
    return served


def _servable(texts: Any, have: Any) -> list[str]:
    """Ids of the chunks that have no vector while their text has one."""
    import pyarrow.compute as pc  # noqa: PLC0415

    done = pc.is_in(texts["chunk_id"], value_set=have["chunk_id"].combine_chunks())
    known = pc.is_in(texts["text_hash"], value_set=have["text_hash"].combine_chunks())
    ids: list[str] = texts["chunk_id"].filter(pc.and_(pc.invert(done), known)).to_pylist()
    return ids
