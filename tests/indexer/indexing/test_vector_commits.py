from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from trio.testing import MockClock

from indexer.broadcast import Notifier
from indexer.indexing.embedding_pass import COMMIT_DELAY, COMMIT_ROWS, VectorCommits
from indexer.status_types import WorkCounters
from indexer.types import Matrix, StoredChunk

pytestmark = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])


class CountingStore:
    """Notes when how many vectors were committed."""

    def __init__(self) -> None:
        self.commits: list[tuple[float, int]] = []

    async def add_vectors(self, key: str, dim: int, items: Sequence[tuple[Sequence[StoredChunk], Matrix]]) -> int:
        count = sum(len(chunks) for chunks, _ in items)
        self.commits.append((anyio.current_time(), count))
        return count


def batch(first: int, count: int = 1) -> tuple[list[StoredChunk], Matrix]:
    chunks = [
        StoredChunk(f"{n:032}", "/f/a.md", "/f", n, f"text {n}", "", "L1", f"{n:032}")
        for n in range(first, first + count)
    ]
    return chunks, np.ones((count, 1), np.float32)


@asynccontextmanager
async def committing() -> AsyncIterator[tuple[CountingStore, VectorCommits, float]]:
    """A store, what commits to it meanwhile, and the time it began."""
    store = CountingStore()
    commits = VectorCommits("key", store, WorkCounters(), Notifier())  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run)
        yield store, commits, anyio.current_time()
        tasks.cancel_scope.cancel()


async def test_last_vector_is_committed_at_once_and_the_next_ones_no_sooner_than_the_delay() -> None:
    async with committing() as (store, commits, began):
        for number in range(10):  # a stream of lone edits, five a second
            await commits.put(1, *batch(number), last=True)
            await anyio.sleep(0.2)
        await anyio.sleep(2 * COMMIT_DELAY)
    assert store.commits == [(pytest.approx(began), 1), (pytest.approx(began + COMMIT_DELAY), 9)]


async def test_long_round_ends_with_a_commit_however_short_ago_the_one_before_was() -> None:
    async with committing() as (store, commits, began):
        await commits.put(1, *batch(0, COMMIT_ROWS))
        await anyio.sleep(0.5)
        await commits.put(1, *batch(COMMIT_ROWS, 7), last=True)
        await anyio.sleep(0.1)
        await commits.put(1, *batch(COMMIT_ROWS + 7), last=True)
        await anyio.sleep(2 * COMMIT_DELAY)
    end = began + 0.5
    assert store.commits == [
        (pytest.approx(began), COMMIT_ROWS), (pytest.approx(end), 7), (pytest.approx(end + COMMIT_DELAY), 1),
    ]  # fmt: skip


async def test_vector_that_others_follow_waits_for_them_as_long_as_the_delay() -> None:
    async with committing() as (store, commits, began):
        await commits.put(1, *batch(0))
        await anyio.sleep(1)
        await commits.put(1, *batch(1))
        await anyio.sleep(2 * COMMIT_DELAY)
        await commits.put(1, *batch(2, COMMIT_ROWS))
        await anyio.sleep(0.01)
    assert [count for _, count in store.commits] == [2, COMMIT_ROWS]
    assert store.commits[0][0] == pytest.approx(began + COMMIT_DELAY)
