"""The vectors of one model: appended as they are computed, never updated; they may lag behind the text.

A vector whose chunk was removed is an *orphan*: searches drop it, equal text reuses it, and maintenance deletes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import StoreError
from indexer.store.chunk_table import ChunkTable
from indexer.store.resources import trim_memory_before
from indexer.store.schema import escape, relative_name, unescape, vectors_schema
from indexer.store.table import Fragmentation, append, delete, equals, measure, one_of, select, select_by_values
from indexer.types import Matrix, StoredChunk, Vector

_WINDOW = 2000  # chunks checked at once when the embedding queue is read
_LENGTH_TOLERANCE = 1e-3  # how far a squared length may be from one: float16 models round that much


class VectorTable:
    """Vectors of one model key.

    Attributes:
        embedded: Escaped folder -> chunks that exist and have a vector.
        orphans: Chunk id -> escaped folder of vectors whose chunk was removed.
        backlogs: Escaped folder -> its chunks without a vector, as of the last comparison.
    """

    def __init__(self, table: Any, key: str, dim: int) -> None:
        self.table = table
        self.key = key
        self.dim = dim
        self.embedded: Counter[str] = Counter()
        self.orphans: dict[str, str] = {}
        self.backlogs: dict[str, Backlog] = {}
        self.fragmentation = Fragmentation()

    async def scan(self, chunks: ChunkTable) -> None:
        """Read from the tables which vectors have a chunk.

        Raises:
            StoreError: A table cannot be read.
        """
        self.embedded, self.orphans = Counter(), {}
        self.backlogs.clear()
        rows = await select(self.table, ("chunk_id", "folder"))
        if rows.num_rows:
            alive = await chunks.ids()
            await anyio.to_thread.run_sync(self._set_counts, rows, alive)
        self.fragmentation = await measure(self.table)

    def _set_counts(self, rows: Any, alive: Any) -> None:
        has_chunk = pc.is_in(rows["chunk_id"], value_set=alive.combine_chunks())
        counts = pc.value_counts(rows["folder"].filter(has_chunk)).to_pylist()
        orphans = rows.filter(pc.invert(has_chunk))
        self.embedded = Counter({entry["values"]: entry["counts"] for entry in counts})
        self.orphans = dict(zip(orphans["chunk_id"].to_pylist(), orphans["folder"].to_pylist(), strict=True))

    async def recount(self, chunks: ChunkTable) -> None:
        """As ``ChunkTable.recount``.

        Raises:
            StoreError: A table cannot be read.
        """
        before = self.fragmentation
        await self.scan(chunks)
        self.fragmentation.after_failed_write(before)

    async def ids_with_vector(self, ids: Sequence[str]) -> set[str]:
        """The ids among these that have a vector.

        Raises:
            StoreError: The table cannot be read.
        """
        if not ids or not (self.orphans or self.embedded.total()):
            return set()
        return set((await select_by_values(self.table, "chunk_id", ids, ("chunk_id",)))["chunk_id"].to_pylist())

    async def update_counts(self, added: Sequence[StoredChunk], lost: dict[str, str]) -> None:
        """Update the counts after chunks were added and removed.

        Raises:
            StoreError: The table cannot be read.
        """
        for chunk_id in await self.ids_with_vector(list(lost)):
            self.embedded[lost[chunk_id]] -= 1
            self.orphans[chunk_id] = lost[chunk_id]
            self.fragmentation.rows += 1
        for chunk in added:
            folder = escape(chunk.folder)
            if self.orphans.pop(chunk.chunk_id, None) is not None:
                self.embedded[folder] += 1
            elif folder in self.backlogs:
                self.backlogs[folder].added_later.append(chunk.chunk_id)

    async def add(self, items: Sequence[tuple[Sequence[StoredChunk], Matrix]], table: ChunkTable) -> int:
        """Append vectors of chunks that exist and have none yet, in one commit; returns how many.

        Raises:
            StoreError: Nothing was written: a vector is not finite, not of unit length or of another dimension
                (``internal``), or the disk refused.
        """
        found: dict[str, tuple[StoredChunk, Vector]] = {}
        for chunks, matrix in items:
            _check_vectors(matrix, len(chunks), self.dim)
            found.update((chunk.chunk_id, (chunk, row)) for chunk, row in zip(chunks, matrix, strict=True))
        if not found:
            return 0
        missing = await table.existing_ids(list(found)) - await self.ids_with_vector(list(found))
        fresh = [pair for chunk_id, pair in found.items() if chunk_id in missing]
        if fresh:
            await trim_memory_before(self.fragmentation.commits)
            rows = await anyio.to_thread.run_sync(self._rows, fresh)
            with anyio.CancelScope(shield=True):  # the counts must follow what the disk has
                await append(self.table, rows)
                self.embedded.update(escape(chunk.folder) for chunk, _ in fresh)
                self.fragmentation.record_commit(len(fresh))
        return len(fresh)

    def _rows(self, items: list[tuple[StoredChunk, Vector]]) -> Any:
        flat = np.concatenate([row for _, row in items]).astype(np.float32, copy=False)
        chunks = [chunk for chunk, _ in items]
        columns = [
            pa.array([chunk.chunk_id for chunk in chunks]),
            pa.array([escape(chunk.path) for chunk in chunks]),
            pa.array([escape(chunk.folder) for chunk in chunks]),
            pa.array([escape(relative_name(chunk.folder, chunk.path)) for chunk in chunks]),
            pa.array([chunk.text_hash for chunk in chunks]),
            pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dim),
        ]
        return pa.table(columns, schema=vectors_schema(self.key, self.dim))

    async def vectors_of_equal_text(self, chunks: Sequence[StoredChunk]) -> tuple[list[StoredChunk], Matrix]:
        """Those of the chunks whose text has a vector already, and these vectors.

        Raises:
            StoreError: The table cannot be read.
        """
        text_hashes = sorted({chunk.text_hash for chunk in chunks})
        if not text_hashes or not (self.orphans or self.embedded.total()):
            return [], np.empty((0, self.dim), np.float32)
        rows = await select_by_values(self.table, "text_hash", text_hashes, ("text_hash", "vector"))
        first: dict[str, int] = {}
        for at, text_hash in enumerate(rows["text_hash"].to_pylist()):
            first.setdefault(text_hash, at)
        found = list({chunk.chunk_id: chunk for chunk in chunks if chunk.text_hash in first}.values())
        flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        matrix: Matrix = flat.reshape(-1, self.dim)[[first[chunk.text_hash] for chunk in found]]
        return found, np.ascontiguousarray(matrix)

    async def drop(self, folder: str) -> int:
        """Delete the vectors of an (escaped) folder in one commit; returns how many of them had a chunk.

        Raises:
            StoreError: Nothing was deleted.
        """
        await delete(self.table, equals("folder", folder))
        self.orphans = {chunk_id: where for chunk_id, where in self.orphans.items() if where != folder}
        self.backlogs.pop(folder, None)
        self.fragmentation.record_commit(0, deletes=True)
        return self.embedded.pop(folder, 0)

    async def delete_unused_rows(self) -> None:
        """Delete the orphans.

        Raises:
            StoreError: Some are still there.
        """
        ids = list(self.orphans)
        for at in range(0, len(ids), 2000):
            await delete(self.table, one_of("chunk_id", ids[at : at + 2000]))
        self.orphans.clear()

    async def backlog(self, folder: str, chunks: ChunkTable) -> Backlog:
        """The chunks of an (escaped) folder without a vector, from memory or by comparing the tables once.

        Raises:
            StoreError: A table cannot be read.
        """
        if folder not in self.backlogs:
            all_ids = await chunks.ids(folder)
            done = (await select(self.table, ("chunk_id",), equals("folder", folder)))["chunk_id"]
            self.backlogs[folder] = await anyio.to_thread.run_sync(Backlog.between, all_ids, done)
        return self.backlogs[folder]

    async def waiting(self, folder: str, chunks: ChunkTable, limit: int | None) -> list[StoredChunk]:
        """The first chunks of an (escaped) folder that have no vector, checked against both tables.

        Raises:
            StoreError: A table cannot be read.
        """
        backlog = await self.backlog(folder, chunks)
        out: list[StoredChunk] = []
        at = 0
        while limit is None or len(out) < limit:
            ids = backlog.window(at, _WINDOW if limit is None else min(_WINDOW, limit - len(out)))
            if not ids:
                break
            alive, done = await chunks.fetch(ids), await self.ids_with_vector(ids)
            there = [alive[i] for i in ids if i in alive and i not in done]
            if there or at:
                at += len(ids)
            else:
                backlog.skip(len(ids))
            out += there
        return list({chunk.chunk_id: chunk for chunk in out}.values())

    def oversample(self, count: int) -> int:
        """How many vectors to fetch so that about ``count`` of them have a chunk."""
        return count + 2 * count * len(self.orphans) // max(self.embedded.total(), 1)

    def counts(self) -> dict[str, int]:
        """Folder -> chunks that have a vector."""
        return {unescape(folder): count for folder, count in self.embedded.items() if count}


def _check_vectors(matrix: Matrix, rows: int, dim: int) -> None:
    if matrix.shape != (rows, dim):
        raise StoreError(f"expected {rows} vectors of {dim} dimensions, got an array of shape {matrix.shape}")
    lengths = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE))  # written so that NaN is wrong
    if wrong.size:
        raise StoreError(
            f"vector {int(wrong[0])} of {rows} has squared length {float(lengths[wrong[0]]):.4g} instead of 1; "
            "the model produced numbers that cannot be searched"
        )


# Chunks without a vector --------------------------------------------------------------------------------------------
# The embedding queue of one folder and one model: derived from the tables, never stored.


@dataclass(slots=True)
class Backlog:
    """Chunk ids that had no vector when the tables were compared, in table order.

    Kept in Arrow memory: 36 bytes an id, so 36 MB for a million. It may contain chunks that have since been removed
    or embedded; the caller checks the ids against the tables.

    Attributes:
        ids: Arrow array of ids.
        head: How many at the front are done.
        added_later: Ids of chunks that were added after the comparison.
    """

    ids: Any
    head: int = 0
    added_later: list[str] = field(default_factory=list)

    @classmethod
    def between(cls, chunks: Any, done: Any) -> Backlog:
        """The ids of one Arrow column that are not in another."""
        waiting = chunks.filter(pc.invert(pc.is_in(chunks, value_set=done.combine_chunks())))
        return cls(waiting.combine_chunks())

    def window(self, start: int, count: int) -> list[str]:
        """Up to ``count`` ids from ``start`` on, counted from the head."""
        at = self.head + start
        out: list[str] = self.ids.slice(at, count).to_pylist() if at < len(self.ids) else []
        rest = max(at + len(out) - len(self.ids), 0)
        return out + self.added_later[rest : rest + count - len(out)]

    def skip(self, count: int) -> None:
        """Advance the head, so that these ids are not returned again."""
        self.head += count
        if self.head >= len(self.ids) and self.added_later:
            self.ids = pa.array(self.added_later[self.head - len(self.ids) :], pa.string())
            self.head, self.added_later = 0, []


# Vectors of equal text ----------------------------------------------------------------------------------------------
# Reuse of vectors for text that the index already has, for a whole folder at once.

_BATCH = 2000  # chunks a commit


async def reuse_all(vectors: VectorTable, chunks: ChunkTable, folder: str) -> int:
    """Give the pending chunks of an (escaped) folder the vector of equal text; returns how many got one.

    Compares hashes in Arrow memory (about 150 bytes a chunk) and reads text only of the chunks that get one.

    Raises:
        StoreError: A table cannot be read or written; what was committed stays.
    """
    if not (vectors.orphans or vectors.embedded.total()):
        return 0
    have = await select(vectors.table, ("chunk_id", "text_hash"))
    ids = await anyio.to_thread.run_sync(_ids_to_reuse, await chunks.text_hashes(folder), have)
    served = 0
    for at in range(0, len(ids), _BATCH):
        alive = await chunks.fetch(ids[at : at + _BATCH])
        served += await vectors.add([await vectors.vectors_of_equal_text(list(alive.values()))], chunks)
    return served


def _ids_to_reuse(texts: Any, have: Any) -> list[str]:
    """Ids of the chunks that have no vector although equal text has one."""
    done = pc.is_in(texts["chunk_id"], value_set=have["chunk_id"].combine_chunks())
    known = pc.is_in(texts["text_hash"], value_set=have["text_hash"].combine_chunks())
    ids: list[str] = texts["chunk_id"].filter(pc.and_(pc.invert(done), known)).to_pylist()
    return ids
