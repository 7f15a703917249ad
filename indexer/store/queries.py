"""Keyword search (BM25) over ``chunks``, and semantic search over the vectors of one model, joined to ``chunks``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio.to_thread
from lancedb.query import FullTextOperator, MatchQuery

from indexer.store.chunk_table import ChunkTable
from indexer.store.health import store_errors
from indexer.store.schema import CHUNK_COLUMNS, FILE, escape, to_chunks
from indexer.store.table import all_of, one_of, scope_filter, select
from indexer.store.vector_table import VectorTable
from indexer.types import Scope, Scored, StoredChunk, Vector

_MANY_PATHS = 1000  # an IN list of so many paths costs a keyword search 10 ms at 100,000 rows
_MOST_NS = 2**63 - 1  # the column is int64: the year 2262
_MOST_ROWS = 20_000  # most rows fetched when filtering leaves too few
# Partitions of the vector index that are searched: all of them up to 160,000 vectors, then two thirds. At a million
# recall@10 was 0.47 with 20 of them, 0.95 with 50, 0.997 with 80; 16, 22 and 23 ms.
_PROBES, _PARTITION = 20, 12_000
# So many results of the quantised index are compared exactly, and at least four times the number requested.
_CANDIDATES = 160


@dataclass(frozen=True, slots=True)
class PreparedScope:
    """A scope translated for the tables.

    Attributes:
        where: SQL applied before ranking, on columns that both kinds of tables have; None for all rows.
        folders: Allowed folders, None for all; checked before ranking only if a table has others, else after it.
        paths: Allowed escaped paths, checked after ranking because they are too many for a condition.
    """

    where: str | None
    folders: frozenset[str] | None = None
    paths: frozenset[str] | None = None

    def filter_for(self, rows: Mapping[str, int]) -> str | None:
        """The SQL filter for a table with so many rows of each (escaped) folder.

        Nearly always all folders are searched, and a condition that every row meets costs a semantic search 40 ms at a
        million rows.
        """
        if self.folders is None:
            return self.where
        allowed = {escape(folder) for folder in self.folders}
        others = any(count and folder not in allowed for folder, count in rows.items())
        return all_of(one_of("folder", sorted(allowed)), self.where) if others else self.where

    def contains(self, chunk: StoredChunk) -> bool:
        """Whether a chunk found with ``filter_for`` is in the scope: what the filter did not check."""
        inside = self.folders is None or chunk.folder in self.folders
        return inside and (self.paths is None or escape(chunk.path) in self.paths)


async def prepare_scope(chunks: ChunkTable, scope: Scope) -> PreparedScope | None:
    """Translate a scope; None when nothing can be in it.

    Only file rows have modification times, so that a touched file costs one row: ``modified_after`` becomes the
    list of files it admits.

    Raises:
        QueryError: The glob is malformed.
        StoreError: The table cannot be read.
    """
    prepared = PreparedScope(scope_filter(scope), None if scope.folders is None else frozenset(scope.folders))
    if scope.folders is not None and not scope.folders:
        return None
    if scope.modified_after is None:
        return prepared
    after_ns = max(-_MOST_NS, min(int(scope.modified_after * 1e9), _MOST_NS))  # the library refuses a larger number
    recent = f"ordinal = {FILE} AND mtime_ns > {after_ns} AND chunks > 0"
    paths = (await select(chunks.table, ("path",), all_of(recent, prepared.filter_for(chunks.counts))))[
        "path"
    ].to_pylist()
    if not paths:
        return None
    if len(paths) > _MANY_PATHS:
        return replace(prepared, paths=frozenset(paths))
    return replace(prepared, where=all_of(prepared.where, one_of("path", paths)))


async def has_files(chunks: ChunkTable, scope: Scope) -> bool:
    """Whether a file with text is in the scope.

    Raises:
        QueryError: The glob is malformed.
        StoreError: The table cannot be read.
    """
    prepared = await prepare_scope(chunks, scope)
    if prepared is None:
        return False
    allowed = None if scope.folders is None else one_of("folder", sorted(escape(folder) for folder in scope.folders))
    where = all_of(f"ordinal = {FILE} AND chunks > 0", allowed, prepared.where)
    with store_errors("read the index"):
        rows = await chunks.table.query().where(where).select(["path"]).limit(1).to_arrow()
    return bool(rows.num_rows)


async def search_keyword(
    chunks: ChunkTable,
    tokens: Sequence[str],
    scope: Scope,
    limit: int,
    accepts: Callable[[StoredChunk], bool] | None = None,
) -> list[Scored]:
    """The chunks that hold any of the tokens, best BM25 score first.

    ``accepts`` is called with each in a worker thread; more are fetched in place of those it rejects, 20,000 at most.

    Raises:
        QueryError: The glob is malformed.
        StoreError: The table cannot be read.
    """
    prepared = await prepare_scope(chunks, scope)
    words = " ".join(tokens)
    if prepared is None or not words.strip():
        return []
    query = MatchQuery(words, "tokens", operator=FullTextOperator.OR)

    async def fetch(count: int) -> tuple[list[Scored], bool]:
        search, where = chunks.table.query().nearest_to_text(query), prepared.filter_for(chunks.counts)
        if where is not None:
            search = search.where(where)
        with store_errors("search the index by word"):
            rows = await search.select([*CHUNK_COLUMNS, "_score"]).limit(count).to_arrow()
        found = [
            Scored(chunk, score) for chunk, score in zip(to_chunks(rows), rows["_score"].to_pylist(), strict=True)
        ]
        return await _accepted(found, prepared, accepts), rows.num_rows < count

    return await _fetch_enough(fetch, limit)


async def search_semantic(
    chunks: ChunkTable,
    vectors: VectorTable,
    vector: Vector,
    scope: Scope,
    limit: int,
    accepts: Callable[[StoredChunk], bool] | None = None,
) -> list[Scored]:
    """The chunks whose vectors are nearest, highest cosine first; vectors without a chunk are dropped.

    ``accepts`` as in ``search_keyword``.

    Raises:
        QueryError: The glob is malformed.
        StoreError: A table cannot be read.
    """
    prepared = await prepare_scope(chunks, scope)
    if prepared is None:
        return []

    async def fetch(count: int) -> tuple[list[Scored], bool]:
        count = vectors.oversample(count)
        rows = await nearest(vectors, vector, prepared.filter_for(vectors.embedded), count)
        distances: dict[str, float] = {}
        for chunk_id, distance in zip(rows["chunk_id"].to_pylist(), rows["_distance"].to_pylist(), strict=True):
            distances.setdefault(chunk_id, distance)
        alive = await chunks.fetch(list(distances))
        found = [Scored(alive[i], 1.0 - distance) for i, distance in distances.items() if i in alive]
        return await _accepted(found, prepared, accepts), rows.num_rows < count

    return await _fetch_enough(fetch, limit)


async def nearest(vectors: VectorTable, vector: Vector, where: str | None, count: int) -> Any:
    """Arrow rows of ``chunk_id`` and ``_distance`` (cosine distance, 0..2), nearest first.

    The metric and the refinement are always given: without the first the library measures L2 while there is no
    index, without the second a quantised index answers on another scale. With a filter the index searches
    more partitions until it has enough rows.

    Raises:
        StoreError: The table cannot be read.
    """
    refine = max(4, -(-_CANDIDATES // max(1, count)))
    query = vectors.table.query().nearest_to(vector).distance_type("cosine").limit(count).refine_factor(refine)
    query = query.nprobes(partitions_to_search(vectors.fragmentation.rows_at_maintenance))
    if where is not None:
        query = query.where(where).maximum_nprobes(0)
    with store_errors("search the index by meaning"):
        return await query.select(["chunk_id", "_distance"]).to_arrow()


def partitions_to_search(vectors: int) -> int:
    """How many partitions of an index of so many vectors to search."""
    return max(_PROBES, vectors // _PARTITION)


async def _accepted(
    found: list[Scored], prepared: PreparedScope, accepts: Callable[[StoredChunk], bool] | None
) -> list[Scored]:
    inside = [hit for hit in found if prepared.contains(hit.chunk)]
    if accepts is None:
        return inside
    return await anyio.to_thread.run_sync(lambda: [hit for hit in inside if accepts(hit.chunk)])


async def _fetch_enough(fetch: Callable[[int], Awaitable[tuple[list[Scored], bool]]], limit: int) -> list[Scored]:
    """Fetch more rows until ``limit`` of them are left after filtering, or there are no more."""
    count = limit
    while True:
        found, exhausted = await fetch(count)
        if len(found) >= limit or exhausted or count >= _MOST_ROWS:
            found.sort(key=lambda scored: (-scored.score, scored.chunk.chunk_id))
            return found[:limit]
        count = min(count * 4, _MOST_ROWS)
