"""Does a table answer, and is all of it there? Opening alone notices neither a lost file nor a changed one."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from indexer.errors import StoreError
from indexer.store.filters import both, equals
from indexer.store.paths import digest
from indexer.store.schema import FILE

_BATCH = 4096  # rows looked at together
_UNIT = 1e-2  # how far the squared length of a stored vector may be from one


async def probe_chunks(table: Any) -> None:
    """Read a little of everything that start, search and commit read; raises what the library raises."""
    from lancedb.query import MatchQuery  # noqa: PLC0415

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
    import numpy as np  # noqa: PLC0415

    vectors = batch["vector"]
    if vectors.null_count:
        raise StoreError("a vector in the index is missing", "damaged")
    flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
    if not bool(np.all(np.abs(squares - 1.0) <= _UNIT)):  # written so that NaN is wrong
        raise StoreError("a vector in the index is not what was written", "damaged")
