"""One model's vectors: appended as they are made, never updated, and free to lag behind the text.

A vector whose chunk has gone is an *orphan*: searches drop it, a chunk that comes back (or equal text elsewhere)
takes it again, and maintenance deletes it.
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
from indexer.store.schema import below, escape, unescape, vectors_schema
from indexer.store.table import Fragmentation, append, delete, equals, lookup, measure, one_of, select
from indexer.types import Matrix, StoredChunk, Vector

_WINDOW = 2000  # chunks checked at once when the embedding queue is read
_UNIT = 1e-3  # how far a squared length may be from one: float16 models round that much


class VectorTable:
    """Vectors of one model key.

    Attributes:
        embedded: Escaped folder -> chunks that exist and have a vector.
        orphans: Chunk id -> escaped folder of vectors whose chunk has gone.
        backlogs: Escaped folder -> chunks that had no vector when last looked.
    """

    def __init__(self, table: Any, key: str, dim: int) -> None:
        self.table = table
        self.key = key
        self.dim = dim
        self.embedded: Counter[str] = Counter()
        self.orphans: dict[str, str] = {}
        self.backlogs: dict[str, Backlog] = {}
        self.wear = Fragmentation()

    async def scan(self, chunks: ChunkTable) -> None:
        """Read off the tables which vectors have a chunk.

        Raises:
            StoreError: A table cannot be read.
        """
        self.embedded, self.orphans = Counter(), {}
        self.backlogs.clear()
        rows = await select(self.table, ("chunk_id", "folder"))
        if rows.num_rows:
            alive = await chunks.ids()
            await anyio.to_thread.run_sync(self._remember, rows, alive)
        self.wear = await measure(self.table)

    def _remember(self, rows: Any, alive: Any) -> None:
        served = pc.is_in(rows["chunk_id"], value_set=alive.combine_chunks())
        tally = pc.value_counts(rows["folder"].filter(served)).to_pylist()
        orphans = rows.filter(pc.invert(served))
        self.embedded = Counter({entry["values"]: entry["counts"] for entry in tally})
        self.orphans = dict(zip(orphans["chunk_id"].to_pylist(), orphans["folder"].to_pylist(), strict=True))

    async def recount(self, chunks: ChunkTable) -> None:
        """As ``ChunkTable.recount``.

        Raises:
            StoreError: A table cannot be read.
        """
        before = self.wear
        await self.scan(chunks)
        self.wear.expires, self.wear.erased, self.wear.litter = before.expires, before.erased, True

    async def present(self, ids: Sequence[str]) -> set[str]:
        """Which of these chunks have a vector.

        Raises:
            StoreError: The table cannot be read.
        """
        if not ids or not (self.orphans or self.embedded.total()):
            return set()
        return set((await lookup(self.table, "chunk_id", ids, ("chunk_id",)))["chunk_id"].to_pylist())

    async def follow(self, added: Sequence[StoredChunk], lost: dict[str, str]) -> None:
        """Keep the counts true after a replacement of files: chunks came and went.

        Raises:
            StoreError: The table cannot be read.
        """
        for chunk_id in await self.present(list(lost)):
            self.embedded[lost[chunk_id]] -= 1
            self.orphans[chunk_id] = lost[chunk_id]
            self.wear.rows += 1
        for chunk in added:
            folder = escape(chunk.folder)
            if self.orphans.pop(chunk.chunk_id, None) is not None:
                self.embedded[folder] += 1
            elif folder in self.backlogs:
                self.backlogs[folder].late.append(chunk.chunk_id)

    async def add(self, items: Sequence[tuple[Sequence[StoredChunk], Matrix]], table: ChunkTable) -> int:
        """Append vectors of chunks that exist and have none yet, in one commit; returns how many.

        Raises:
            StoreError: Nothing was written: a vector is not finite, not of unit length or of another dimension
                (``internal``), or the disk refused.
        """
        found: dict[str, tuple[StoredChunk, Vector]] = {}
        for chunks, matrix in items:
            _check(matrix, len(chunks), self.dim)
            found.update((chunk.chunk_id, (chunk, row)) for chunk, row in zip(chunks, matrix, strict=True))
        if not found:
            return 0
        wanted = await table.alive(list(found)) - await self.present(list(found))
        fresh = [pair for chunk_id, pair in found.items() if chunk_id in wanted]
        if fresh:
            await trim_memory_before(self.wear.commits)
            rows = await anyio.to_thread.run_sync(self._rows, fresh)
            with anyio.CancelScope(shield=True):  # the counts must follow what the disk has
                await append(self.table, rows)
                self.embedded.update(escape(chunk.folder) for chunk, _ in fresh)
                self.wear.wrote(len(fresh))
        return len(fresh)

    def _rows(self, items: list[tuple[StoredChunk, Vector]]) -> Any:
        flat = np.concatenate([row for _, row in items]).astype(np.float32, copy=False)
        chunks = [chunk for chunk, _ in items]
        columns = [
            pa.array([chunk.chunk_id for chunk in chunks]),
            pa.array([escape(chunk.path) for chunk in chunks]),
            pa.array([escape(chunk.folder) for chunk in chunks]),
            pa.array([escape(below(chunk.folder, chunk.path)) for chunk in chunks]),
            pa.array([chunk.text_hash for chunk in chunks]),
            pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dim),
        ]
        return pa.table(columns, schema=vectors_schema(self.key, self.dim))

    async def twins(self, chunks: Sequence[StoredChunk]) -> tuple[list[StoredChunk], Matrix]:
        """The chunks whose very text has a vector already, and those vectors.

        Raises:
            StoreError: The table cannot be read.
        """
        wanted = sorted({chunk.text_hash for chunk in chunks})
        if not wanted or not (self.orphans or self.embedded.total()):
            return [], np.empty((0, self.dim), np.float32)
        rows = await lookup(self.table, "text_hash", wanted, ("text_hash", "vector"))
        first: dict[str, int] = {}
        for at, text_hash in enumerate(rows["text_hash"].to_pylist()):
            first.setdefault(text_hash, at)
        served = list({chunk.chunk_id: chunk for chunk in chunks if chunk.text_hash in first}.values())
        flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        matrix: Matrix = flat.reshape(-1, self.dim)[[first[chunk.text_hash] for chunk in served]]
        return served, np.ascontiguousarray(matrix)

    async def drop(self, folder: str) -> int:
        """Delete the vectors of an (escaped) folder in one commit; returns how many served a chunk.

        Raises:
            StoreError: Nothing was deleted.
        """
        await delete(self.table, equals("folder", folder))
        self.orphans = {chunk_id: where for chunk_id, where in self.orphans.items() if where != folder}
        self.backlogs.pop(folder, None)
        self.wear.wrote(0, dead=True)
        return self.embedded.pop(folder, 0)

    async def bury(self) -> None:
        """Delete the orphans.

        Raises:
            StoreError: Some are still there.
        """
        ids = list(self.orphans)
        for at in range(0, len(ids), 2000):
            await delete(self.table, one_of("chunk_id", ids[at : at + 2000]))
        self.orphans.clear()

    async def backlog(self, folder: str, chunks: ChunkTable) -> Backlog:
        """The waiting chunks of an (escaped) folder, from memory or by comparing the tables once.

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
            alive, done = await chunks.fetch(ids), await self.present(ids)
            there = [alive[i] for i in ids if i in alive and i not in done]
            if there or at:
                at += len(ids)
            else:
                backlog.pass_over(len(ids))
            out += there
        return list({chunk.chunk_id: chunk for chunk in out}.values())

    def ask_for(self, wanted: int) -> int:
        """How many vectors to fetch so that about ``wanted`` of them have a chunk."""
        return wanted + 2 * wanted * len(self.orphans) // max(self.embedded.total(), 1)

    def counts(self) -> dict[str, int]:
        """Folder -> chunks that have a vector."""
        return {unescape(folder): count for folder, count in self.embedded.items() if count}


def _check(matrix: Matrix, rows: int, dim: int) -> None:
    if matrix.shape != (rows, dim):
        raise StoreError(f"expected {rows} vectors of {dim} dimensions, got an array of shape {matrix.shape}")
    lengths = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= _UNIT))  # written so that NaN is wrong
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

    Kept as Arrow memory: 36 bytes an id, so 36 MB for a million. It may name chunks that have since gone or been
    embedded; whoever takes ids from it checks them against the tables.

    Attributes:
        ids: Arrow array of ids.
        head: How many at the front are dealt with.
        late: Ids of chunks that came afterwards.
    """

    ids: Any
    head: int = 0
    late: list[str] = field(default_factory=list)

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
        return out + self.late[rest : rest + count - len(out)]

    def pass_over(self, count: int) -> None:
        """Advance the head; what it has passed is not offered again."""
        self.head += count
        if self.head >= len(self.ids) and self.late:
            self.ids = pa.array(self.late[self.head - len(self.ids) :], pa.string())
            self.head, self.late = 0, []


# Vectors of equal text ----------------------------------------------------------------------------------------------
# Vectors for text that the index has seen before, for a whole folder at once.

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
    done = pc.is_in(texts["chunk_id"], value_set=have["chunk_id"].combine_chunks())
    known = pc.is_in(texts["text_hash"], value_set=have["text_hash"].combine_chunks())
    ids: list[str] = texts["chunk_id"].filter(pc.and_(pc.invert(done), known)).to_pylist()
    return ids
