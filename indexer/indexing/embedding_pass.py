"""The embedding pass: vectors for chunks that have none, in micro-batches between which every tool call goes first.

Each model has three tasks: one fetches the next window of chunks, one embeds the present window, one commits. Only
the second holds the slot, and does nothing else meanwhile: neither a read nor a commit makes a tool call wait. Which
chunks have no vector is asked of the store, never remembered: a crash loses at most the vectors not committed yet.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer import waits
from indexer.broadcast import Notifier
from indexer.errors import SlotUnavailable, StoreError
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue
from indexer.slot.embedder import ModelSpec
from indexer.slot.lease import ModelLease
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.status_types import WorkCounters
from indexer.types import Matrix, StoredChunk

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)

WINDOW = 2048
"""Chunks sorted by length together: enough for batches without padding, small enough to see new work soon."""


@dataclass(slots=True)
class _Window:
    """Chunks of one folder, shortest first, and how many of them are done."""

    folder: LiveFolder
    chunks: list[StoredChunk]
    done: int = 0


class EmbeddingPass:
    """Embeds whatever has no vector yet, each model by itself; the slot decides which model is loaded when."""

    def __init__(
        self,
        store: Store,
        slot: ModelSlot,
        manifest: Manifest,
        queue: WorkQueue,
        folders: Folders,
        counters: WorkCounters,
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._slot = slot
        self._manifest = manifest
        self._queue = queue
        self._folders = folders
        self._counters = counters
        self._notifier = notifier
        self.active: dict[str, str] = {}
        """Root being embedded by model key."""

    async def run(self) -> None:
        """Work until cancelled; starts the tasks of a model when a folder first uses it."""
        running: set[tuple[str, str, str, str]] = set()
        async with anyio.create_task_group() as tasks:
            while True:
                for folder in self._folders:
                    spec = folder.model.spec
                    if spec is not None and spec.load_key not in running:
                        running.add(spec.load_key)
                        tasks.start_soon(self._run_model, spec)
                await self._notifier.wait()

    async def _run_model(self, spec: ModelSpec) -> None:
        commits = VectorCommits(spec.key, self._store, self._counters, self._notifier)
        send, receive = anyio.create_memory_object_stream[_Window](0)
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(commits.run)
            tasks.start_soon(self._fetch, spec, commits, send)
            tasks.start_soon(self._embed, spec, commits, receive)

    async def _fetch(self, spec: ModelSpec, commits: VectorCommits, send: MemoryObjectSendStream[_Window]) -> None:
        """Keep one window ready."""
        while True:
            folder = await self._next_folder(spec, commits)
            try:
                chunks = await self._next_window(spec, folder, commits)
            except StoreError as error:
                self._counters.last_error = folder.embedding_problem = str(error)
                log.error("%s: %s", folder.path, error)
                await anyio.sleep(waits.INDEX_RETRY_S)
                continue
            if chunks:
                commits.add_in_flight(chunks)
                await send.send(_Window(folder, chunks))
            else:  # the chunks left, if any, wait for the text pass to cut them again
                await self._notifier.wait()

    async def _next_folder(self, spec: ModelSpec, commits: VectorCommits) -> LiveFolder:
        """The first folder of this model with chunks to embed; waits until there is one."""
        while (folder := self._pending_folder(spec, commits)) is None:
            await self._notifier.wait()
        return folder

    def _pending_folder(self, spec: ModelSpec, commits: VectorCommits) -> LiveFolder | None:
        """The first folder of this model with chunks that have no vector and are not in flight."""
        for folder in self._folders:
            uses_model = folder.model.spec is not None and folder.model.spec.load_key == spec.load_key
            if uses_model and self._store.pending_count(spec.key, folder.path) > commits.count(folder.path):
                return folder
        return None

    async def _next_window(self, spec: ModelSpec, folder: LiveFolder, commits: VectorCommits) -> list[StoredChunk]:
        """The next chunks that need the model, because no equal text has a vector yet; shortest first."""
        # Taken before the store is asked: chunks committed meanwhile may still be in its answer.
        in_flight = frozenset(commits.in_flight)
        limit = WINDOW + commits.count(folder.path)
        chunks = await self._store.pending(spec.key, spec.dim, folder.path, limit)
        chunks = [chunk for chunk in chunks if chunk.chunk_id not in in_flight]
        reused, added = await self._store.reuse_vectors(spec.key, spec.dim, chunks) if chunks else (set(), 0)
        if added:
            self._counters.vectors_reused += added
            self._notifier.notify()
        needed = [chunk for chunk in chunks if chunk.chunk_id not in reused]
        needed = await anyio.to_thread.run_sync(self._requeue_too_long, folder, needed)
        return sorted(needed, key=lambda chunk: len(chunk.passage))

    async def _embed(
        self, spec: ModelSpec, commits: VectorCommits, receive: MemoryObjectReceiveStream[_Window]
    ) -> None:
        async for window in receive:
            while window.done < len(window.chunks) and self._folders.get(window.folder.path) is window.folder:
                try:
                    async with self._slot.use(spec, Priority.INDEX, folder_rank=window.folder.rank) as lease:
                        self.active[spec.key] = window.folder.path
                        await self._embed_window(spec, lease, window, commits)
                    window.folder.embedding_problem = ""
                except SlotUnavailable as error:
                    window.folder.embedding_problem = f"{error} {error.hint}".strip()
                    log.warning("%s: not embedded: %s", window.folder.path, window.folder.embedding_problem)
                    self._notifier.notify()
                    await anyio.sleep(error.retry_after or waits.MODEL_RETRY_S)
                finally:
                    self.active.pop(spec.key, None)
            commits.remove_in_flight(window.chunks[window.done :])
            self._notifier.notify()

    async def _embed_window(self, spec: ModelSpec, lease: ModelLease, window: _Window, commits: VectorCommits) -> None:
        """Embed micro-batches until the window is done, or the slot is wanted for something that goes first."""
        lengths = [len(chunk.passage) for chunk in window.chunks]
        while window.done < len(window.chunks) and not lease.should_yield():
            batch = window.chunks[window.done : window.done + lease.batch_size(lengths[window.done :])]
            started = anyio.current_time()
            matrix = await lease.embed_passages([chunk.passage for chunk in batch])
            self._counters.embedded(len(batch), anyio.current_time() - started)
            window.done += len(batch)
            last = window.done == len(window.chunks) and self._pending_folder(spec, commits) is None
            await commits.put(lease.spec.dim, batch, matrix, last=last)

    def _requeue_too_long(self, folder: LiveFolder, chunks: Sequence[StoredChunk]) -> list[StoredChunk]:
        """The chunks that fit the model; the files of others, made for another tokenizer, are queued to be cut again.

        Runs in a worker thread: counting tokens takes time.
        """
        tokens = folder.model.tokens
        fitting: list[StoredChunk] = []
        again: set[str] = set()
        for chunk in chunks:
            row = self._manifest.row(folder.path, chunk.path)
            same_recipe = row is None or row.recipe == folder.model.recipe
            if same_recipe or tokens.count(chunk.passage) <= tokens.limit:
                fitting.append(chunk)
            else:
                again.add(chunk.path)
        for path in again:
            anyio.from_thread.run_sync(partial(self._queue.add, folder.path, path, force=True))
        return fitting


# Commits ------------------------------------------------------------------------------------------------------------

COMMIT_ROWS = 256
"""Vectors in one commit."""
COMMIT_DELAY = 2.0
"""Seconds a finished vector may wait for its commit: what a crash can cost. Also the least time between the ends of
two short rounds, so that a single edit is committed at once and a stream of edits is not a commit each."""
MAX_WAITING_BATCHES = 16
"""Micro-batches that may wait for their commit before the model waits for the disk."""

_Batch: TypeAlias = tuple[int, Sequence[StoredChunk], Matrix, bool]


class VectorCommits:
    """Commits one model's vectors in batches, beside the model, and knows which chunks are on their way.

    Args:
        key: The model's key.
        store: Where the vectors go.
        counters: Where errors are recorded.
        notifier: Notified after every commit.
    """

    def __init__(self, key: str, store: Store, counters: WorkCounters, notifier: Notifier) -> None:
        self._key = key
        self._store = store
        self._counters = counters
        self._notifier = notifier
        self._send, self._receive = anyio.create_memory_object_stream[_Batch](MAX_WAITING_BATCHES)
        self._last_commit = -COMMIT_DELAY
        self._folders: Counter[str] = Counter()
        self.in_flight: set[str] = set()
        """Ids of chunks that are being embedded or wait for their commit."""

    def count(self, folder: str) -> int:
        """How many chunks of a folder are in flight."""
        return self._folders[folder]

    def add_in_flight(self, chunks: Sequence[StoredChunk]) -> None:
        """These are going to be embedded: leave them out of the next windows."""
        self.in_flight.update(chunk.chunk_id for chunk in chunks)
        self._folders.update(chunk.folder for chunk in chunks)

    def remove_in_flight(self, chunks: Sequence[StoredChunk]) -> None:
        """These are committed, or not going to be embedded after all."""
        self.in_flight.difference_update(chunk.chunk_id for chunk in chunks)
        self._folders.subtract(chunk.folder for chunk in chunks)

    async def put(self, dim: int, chunks: Sequence[StoredChunk], matrix: Matrix, *, last: bool = False) -> None:
        """Hand over a micro-batch: float32 [n, dim], rows of unit length. Waits only if too many are queued.

        Args:
            dim: Length of a vector.
            chunks: One for each row.
            matrix: The rows.
            last: Nothing follows soon, so the commit need not wait for more.
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
                        earliest = 0.0 if round_rows >= COMMIT_ROWS else self._last_commit + COMMIT_DELAY
                        deadline, round_rows = min(deadline, earliest), 0
                    waiting.append((chunks, matrix))
                full = sum(len(chunks) for chunks, _ in waiting) >= COMMIT_ROWS
                if waiting and (full or anyio.current_time() >= deadline):
                    await self._commit(dim, waiting)
                    waiting = []
        finally:
            with anyio.move_on_after(2, shield=True):
                self._send.close()
                waiting.extend((chunks, matrix) for _, chunks, matrix, _ in self._drain())
                self._receive.close()
                if waiting:
                    await self._store.add_vectors(self._key, dim or len(waiting[0][1][0]), waiting)

    async def _commit(self, dim: int, batch: list[tuple[Sequence[StoredChunk], Matrix]]) -> None:
        while True:
            try:
                await self._store.add_vectors(self._key, dim, batch)
                break
            except StoreError as error:
                self._counters.last_error = str(error)
                log.error("vectors not committed: %s; trying again in %g s", error, waits.INDEX_RETRY_S)
                self._notifier.notify()
                await anyio.sleep(waits.INDEX_RETRY_S)
        self._last_commit = anyio.current_time()
        for chunks, _ in batch:
            self.remove_in_flight(chunks)
        self._notifier.notify()

    def _drain(self) -> list[_Batch]:
        batches = []
        while True:
            try:
                batches.append(self._receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                return batches
