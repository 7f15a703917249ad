"""The two legs of a search: by word over ``chunks``, by meaning over one model's vectors, joined to ``chunks``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio.to_thread
from lancedb.query import FullTextOperator, MatchQuery

from indexer.store.chunk_table import ChunkTable
from indexer.store.health import explained
from indexer.store.schema import CHUNK_COLUMNS, FILE, escape, to_chunks
from indexer.store.table import both, one_of, scope_filter, select
from indexer.store.vector_table import VectorTable
from indexer.types import Scope, Scored, StoredChunk, Vector

_MANY_PATHS = 1000  # an IN list of so many paths costs a word search 10 ms at 100,000 rows
_WIDEST = 20_000  # rows asked of an index when filtering afterwards leaves too few
# Partitions of the vector index that are searched: all of them up to 160,000 vectors, then two thirds. At a million
# recall@10 was 0.47 with 20 of them, 0.95 with 50, 0.997 with 80; 16, 22 and 23 ms.
_PROBES, _PARTITION = 20, 12_000
# Of those the quantised index finds, so many are compared exactly, and at least four times what is asked for.
_CANDIDATES = 160


@dataclass(frozen=True, slots=True)
class Reach:
    """A scope made ready for the tables.

    Attributes:
        where: Condition applied before ranking, on columns that both kinds of tables have; None for all rows.
        folders: Folders allowed, None for all; checked after ranking, before it only where a table has others.
        paths: Escaped paths allowed, checked after ranking because they are too many for a condition.
    """

    where: str | None
    folders: frozenset[str] | None = None
    paths: frozenset[str] | None = None

    def condition(self, there: Mapping[str, int]) -> str | None:
        """What to ask of a table that has so many rows of each (escaped) folder.

        Nearly always all folders are searched, and a condition that every row meets costs a search by meaning 40 ms
        at a million rows.
        """
        if self.folders is None:
            return self.where
        allowed = {escape(folder) for folder in self.folders}
        others = any(count and folder not in allowed for folder, count in there.items())
        return both(one_of("folder", sorted(allowed)), self.where) if others else self.where

    def admits(self, chunk: StoredChunk) -> bool:
        """Whether a chunk that was found is in the scope, as far as ``condition`` leaves it open."""
        inside = self.folders is None or chunk.folder in self.folders
        return inside and (self.paths is None or escape(chunk.path) in self.paths)


async def reach(chunks: ChunkTable, scope: Scope) -> Reach | None:
    """Prepare a scope; None when nothing can be in it.

    Modification times stand on file rows only, so that a touched file costs one row: ``modified_after`` becomes the
    list of files it admits.

    Raises:
        QueryError: The glob is malformed.
        StoreError: The table cannot be read.
    """
    within = Reach(scope_filter(scope), None if scope.folders is None else frozenset(scope.folders))
    if scope.folders is not None and not scope.folders:
        return None
    if scope.modified_after is None:
        return within
    recent = f"ordinal = {FILE} AND mtime_ns > {int(scope.modified_after * 1e9)} AND chunks > 0"
    paths = (await select(chunks.table, ("path",), both(recent, within.condition(chunks.counts))))["path"].to_pylist()
    if not paths:
        return None
    if len(paths) > _MANY_PATHS:
        return replace(within, paths=frozenset(paths))
    return replace(within, where=both(within.where, one_of("path", paths)))


async def search_words(
    chunks: ChunkTable,
    tokens: Sequence[str],
    scope: Scope,
    limit: int,
    passes: Callable[[StoredChunk], bool] | None = None,
) -> list[Scored]:
    """The chunks that hold any of the tokens, best BM25 score first.

    ``passes`` is asked of each in a worker thread; more are fetched for those it refuses, 20,000 at most.

    Raises:
        QueryError: The glob is malformed.
        StoreError: The table cannot be read.
    """
    within = await reach(chunks, scope)
    words = " ".join(tokens)
    if within is None or not words.strip():
        return []
    query = MatchQuery(words, "tokens", operator=FullTextOperator.OR)

    async def fetch(count: int) -> tuple[list[Scored], bool]:
        search, where = chunks.table.query().nearest_to_text(query), within.condition(chunks.counts)
        if where is not None:
            search = search.where(where)
        with explained("search the index by word"):
            rows = await search.select([*CHUNK_COLUMNS, "_score"]).limit(count).to_arrow()
        found = [
            Scored(chunk, score) for chunk, score in zip(to_chunks(rows), rows["_score"].to_pylist(), strict=True)
        ]
        return await _passing(found, within, passes), rows.num_rows < count

    return await _enough(fetch, limit)


async def search_meaning(
    chunks: ChunkTable,
    vectors: VectorTable,
    vector: Vector,
    scope: Scope,
    limit: int,
    passes: Callable[[StoredChunk], bool] | None = None,
) -> list[Scored]:
    """The chunks whose vectors are nearest, highest cosine first; vectors without a chunk are dropped.

    ``passes`` as in ``search_words``.

    Raises:
        QueryError: The glob is malformed.
        StoreError: A table cannot be read.
    """
    within = await reach(chunks, scope)
    if within is None:
        return []

    async def fetch(count: int) -> tuple[list[Scored], bool]:
        count = vectors.ask_for(count)
        rows = await nearest(vectors, vector, within.condition(vectors.embedded), count)
        distances: dict[str, float] = {}
        for chunk_id, distance in zip(rows["chunk_id"].to_pylist(), rows["_distance"].to_pylist(), strict=True):
            distances.setdefault(chunk_id, distance)
        alive = await chunks.fetch(list(distances))
        found = [Scored(alive[i], 1.0 - distance) for i, distance in distances.items() if i in alive]
        return await _passing(found, within, passes), rows.num_rows < count

    return await _enough(fetch, limit)


async def nearest(vectors: VectorTable, vector: Vector, where: str | None, count: int) -> Any:
    """Arrow rows of ``chunk_id`` and ``_distance`` (cosine distance, 0..2), nearest first.

    The metric and the refinement are always given: without the first the library measures L2 while there is no
    index, without the second a quantised index answers on another scale. With a filter the index goes on past
    its probes until it has enough rows.

    Raises:
        StoreError: The table cannot be read.
    """
    refine = max(4, -(-_CANDIDATES // max(1, count)))
    query = vectors.table.query().nearest_to(vector).distance_type("cosine").limit(count).refine_factor(refine)
    query = query.nprobes(probes(vectors.wear.settled))
    if where is not None:
        query = query.where(where).maximum_nprobes(0)
    with explained("search the index by meaning"):
        return await query.select(["chunk_id", "_distance"]).to_arrow()


def probes(vectors: int) -> int:
    """How many partitions of an index of so many vectors are searched."""
    return max(_PROBES, vectors // _PARTITION)


async def _passing(found: list[Scored], within: Reach, passes: Callable[[StoredChunk], bool] | None) -> list[Scored]:
    inside = [hit for hit in found if within.admits(hit.chunk)]
    if passes is None:
        return inside
    return await anyio.to_thread.run_sync(lambda: [hit for hit in inside if passes(hit.chunk)])


async def _enough(fetch: Callable[[int], Awaitable[tuple[list[Scored], bool]]], limit: int) -> list[Scored]:
    """Ask for more rows until ``limit`` pass what is checked afterwards, or there are no more."""
    count = limit
    while True:
        found, exhausted = await fetch(count)
        if len(found) >= limit or exhausted or count >= _WIDEST:
            found.sort(key=lambda scored: (-scored.score, scored.chunk.chunk_id))
            return found[:limit]
        count = min(count * 4, _WIDEST)
