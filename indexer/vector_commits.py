"""Finished vectors on their way to the index: batched, committed beside the model, never in its way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import anyio

from indexer import timing
from indexer.errors import StoreError
from indexer.ledger import Ledger
from indexer.pulse import Pulse
from indexer.store.store import Store
from indexer.types import Matrix, StoredChunk

log = logging.getLogger(__name__)

COMMIT_ROWS = 256
"""Vectors in one commit."""
COMMIT_DELAY = 2.0
"""Seconds a finished vector may wait for its commit: what a crash can cost. Also the least time between the ends of
two short rounds, so that a lone edit is committed at once and a stream of them is not a commit each."""
WAITING = 16
"""Micro-batches that may wait for the disk before the model does."""


_Batch: TypeAlias = tuple[int, Sequence[StoredChunk], Matrix, bool]


class VectorCommits:
    """Commits one model's vectors, and knows which chunks are between the queue and the index.

    Args:
        key: The model's key.
        store: Where they go.
        ledger: Where errors are noted.
        pulse: Beaten after every commit.
    """

    def __init__(self, key: str, store: Store, ledger: Ledger, pulse: Pulse) -> None:
        self._key = key
        self._store = store
        self._ledger = ledger
        self._pulse = pulse
        self._send, self._receive = anyio.create_memory_object_stream[_Batch](WAITING)
        self._committed = -COMMIT_DELAY
        self._folders: Counter[str] = Counter()
        self.in_flight: set[str] = set()
        """Ids of chunks that are being embedded or wait for their commit."""

    def count(self, folder: str) -> int:
        """How many chunks of a folder are in flight."""
        return self._folders[folder]

    def promise(self, chunks: Sequence[StoredChunk]) -> None:
        """These are going to be embedded: nobody else needs to."""
        self.in_flight.update(chunk.chunk_id for chunk in chunks)
        self._folders.update(chunk.folder for chunk in chunks)

    def forget(self, chunks: Sequence[StoredChunk]) -> None:
        """These have arrived, or are not going to be embedded after all."""
        self.in_flight.difference_update(chunk.chunk_id for chunk in chunks)
        self._folders.subtract(chunk.folder for chunk in chunks)

    async def put(self, dim: int, chunks: Sequence[StoredChunk], matrix: Matrix, *, last: bool = False) -> None:
        """Hand over a micro-batch: float32 [n, dim], rows of unit length. Waits only when the disk is far behind.

        Args:
            dim: Length of a vector.
            chunks: What the rows are of.
            matrix: The rows.
            last: Nothing follows soon: there is nothing to wait for.
        """
        await self._send.send((dim, chunks, matrix, last))

    async def run(self) -> None:
        """Commit until cancelled; what has been handed over by then is still committed."""
        waiting: list[tuple[Sequence[StoredChunk], Matrix]] = []
        dim, deadline, round_rows = 0, 0.0, 0
        try:
            while True:
                with anyio.move_on_after(max(0.0, deadline - anyio.current_time()) if waiting else None):
                    dim, chunks, matrix, last = await self._receive.receive()
                    if not waiting:
                        deadline = anyio.current_time() + COMMIT_DELAY
                    round_rows += len(chunks)
                    if last:
                        earliest = 0.0 if round_rows >= COMMIT_ROWS else self._committed + COMMIT_DELAY
                        deadline, round_rows = min(deadline, earliest), 0
                    waiting.append((chunks, matrix))
                full = sum(len(chunks) for chunks, _ in waiting) >= COMMIT_ROWS
                if waiting and (full or anyio.current_time() >= deadline):
                    await self._commit(dim, waiting)
                    waiting = []
        finally:
            with anyio.move_on_after(2, shield=True):
                self._send.close()
                waiting.extend((chunks, matrix) for _, chunks, matrix, _ in self._rest())
                self._receive.close()
                if waiting:
                    await self._store.add_vectors(self._key, dim or len(waiting[0][1][0]), waiting)

    async def _commit(self, dim: int, batch: list[tuple[Sequence[StoredChunk], Matrix]]) -> None:
        while True:
            try:
                await self._store.add_vectors(self._key, dim, batch)
                break
            except StoreError as error:
                self._ledger.last_error = str(error)
                log.error("vectors not committed: %s; trying again in %g s", error, timing.INDEX_RETRY_S)
                self._pulse.beat()
                await anyio.sleep(timing.INDEX_RETRY_S)
        self._committed = anyio.current_time()
        for chunks, _ in batch:
            self.forget(chunks)
        self._pulse.beat()

    def _rest(self) -> list[_Batch]:
        rest = []
        while True:
            try:
                rest.append(self._receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                return rest
