"""The embedding pass: chunks without a vector to vectors, micro-batch by micro-batch, behind every tool call.

Three tasks a model: one fetches the next window of chunks, one embeds the present window, one commits. Only the
second holds the slot, and it does nothing else while it does: neither a read nor a commit makes a tool call wait.
What is to be embedded is asked of the store (chunks that have no vector), never remembered: a crash loses at most the
vectors that had not been committed yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer import timing
from indexer.errors import SlotUnavailable, StoreError
from indexer.folder import Folders, LiveFolder
from indexer.ledger import Ledger
from indexer.manifest import Manifest
from indexer.pulse import Pulse
from indexer.slot.embedder import ModelSpec
from indexer.slot.lease import ModelLease
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.store.store import Store
from indexer.types import StoredChunk
from indexer.vector_commits import VectorCommits
from indexer.work_queue import WorkQueue

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
    """Embeds whatever has no vector yet, each model by itself; the slot decides whose turn it is."""

    def __init__(
        self,
        store: Store,
        slot: ModelSlot,
        manifest: Manifest,
        queue: WorkQueue,
        folders: Folders,
        ledger: Ledger,
        pulse: Pulse,
    ) -> None:
        self._store = store
        self._slot = slot
        self._manifest = manifest
        self._queue = queue
        self._folders = folders
        self._ledger = ledger
        self._pulse = pulse
        self.active: dict[str, str] = {}
        """Root being embedded by model key."""

    async def run(self) -> None:
        """Work until cancelled: begins to serve a model when a folder first names it."""
        running: set[tuple[str, str, str, str]] = set()
        async with anyio.create_task_group() as tasks:
            while True:
                for folder in self._folders:
                    spec = folder.model.spec
                    if spec is not None and spec.load_key not in running:
                        running.add(spec.load_key)
                        tasks.start_soon(self._serve, spec)
                await self._pulse.wait()

    async def _serve(self, spec: ModelSpec) -> None:
        commits = VectorCommits(spec.key, self._store, self._ledger, self._pulse)
        send, receive = anyio.create_memory_object_stream[_Window](0)
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(commits.run)
            tasks.start_soon(self._fetch, spec, commits, send)
            tasks.start_soon(self._embed, spec, commits, receive)

    async def _fetch(self, spec: ModelSpec, commits: VectorCommits, send: MemoryObjectSendStream[_Window]) -> None:
        """Keep one window ready."""
        while True:
            folder = await self._next(spec, commits)
            try:
                chunks = await self._window(spec, folder, commits)
            except StoreError as error:
                self._ledger.last_error = folder.embedding_problem = str(error)
                log.error("%s: %s", folder.path, error)
                await anyio.sleep(timing.INDEX_RETRY_S)
                continue
            if chunks:
                commits.promise(chunks)
                await send.send(_Window(folder, chunks))
            else:  # what is left waits for the text pass
                await self._pulse.wait()

    async def _next(self, spec: ModelSpec, commits: VectorCommits) -> LiveFolder:
        """The first folder of this model with chunks to embed; waits until there is one."""
        while (folder := self._waiting(spec, commits)) is None:
            await self._pulse.wait()
        return folder

    def _waiting(self, spec: ModelSpec, commits: VectorCommits) -> LiveFolder | None:
        """The first folder of this model with chunks that nobody has taken up."""
        for folder in self._folders:
            mine = folder.model.spec is not None and folder.model.spec.load_key == spec.load_key
            if mine and self._store.pending_count(spec.key, folder.path) > commits.count(folder.path):
                return folder
        return None

    async def _window(self, spec: ModelSpec, folder: LiveFolder, commits: VectorCommits) -> list[StoredChunk]:
        """The next chunks that really need the model, shortest first."""
        flying = frozenset(commits.in_flight)  # before asking: what lands meanwhile may still be in the answer
        limit = WINDOW + commits.count(folder.path)
        chunks = await self._store.pending(spec.key, spec.dim, folder.path, limit)
        chunks = [chunk for chunk in chunks if chunk.chunk_id not in flying]
        taken, added = await self._store.reuse_vectors(spec.key, spec.dim, chunks) if chunks else (set(), 0)
        if added:
            self._ledger.vectors_reused += added
            self._pulse.beat()
        fresh = [chunk for chunk in chunks if chunk.chunk_id not in taken]
        fresh = await anyio.to_thread.run_sync(self._fitting, folder, fresh)
        return sorted(fresh, key=lambda chunk: len(chunk.passage))

    async def _embed(
        self, spec: ModelSpec, commits: VectorCommits, receive: MemoryObjectReceiveStream[_Window]
    ) -> None:
        async for window in receive:
            while window.done < len(window.chunks) and self._folders.get(window.folder.path) is window.folder:
                try:
                    async with self._slot.use(spec, Priority.INDEX, folder_rank=window.folder.rank) as lent:
                        self.active[spec.key] = window.folder.path
                        await self._embed_some(spec, lent, window, commits)
                    window.folder.embedding_problem = ""
                except SlotUnavailable as error:
                    window.folder.embedding_problem = f"{error} {error.hint}".strip()
                    log.warning("%s: not embedded: %s", window.folder.path, window.folder.embedding_problem)
                    self._pulse.beat()
                    await anyio.sleep(error.retry_after or timing.MODEL_RETRY_S)
                finally:
                    self.active.pop(spec.key, None)
            commits.forget(window.chunks[window.done :])
            self._pulse.beat()

    async def _embed_some(self, spec: ModelSpec, lent: ModelLease, window: _Window, commits: VectorCommits) -> None:
        """Embed micro-batches until the window is done, or somebody who goes first is waiting."""
        lengths = [len(chunk.passage) for chunk in window.chunks]
        while window.done < len(window.chunks) and not lent.should_yield():
            batch = window.chunks[window.done : window.done + lent.take(lengths[window.done :])]
            started = anyio.current_time()
            matrix = await lent.embed_passages([chunk.passage for chunk in batch])
            self._ledger.embedded(len(batch), anyio.current_time() - started)
            window.done += len(batch)
            last = window.done == len(window.chunks) and self._waiting(spec, commits) is None
            await commits.put(lent.spec.dim, batch, matrix, last=last)

    def _fitting(self, folder: LiveFolder, chunks: Sequence[StoredChunk]) -> list[StoredChunk]:
        """Leave out chunks made for another tokenizer that this model would cut; their files are read again."""
        tokens = folder.model.tokens
        fitting: list[StoredChunk] = []
        again: set[str] = set()
        for chunk in chunks:
            row = self._manifest.row(folder.path, chunk.path)
            alike = row is None or row.recipe == folder.model.recipe
            if alike or tokens.count(chunk.passage) <= tokens.limit:
                fitting.append(chunk)
            else:
                again.add(chunk.path)
        for path in again:
            anyio.from_thread.run_sync(partial(self._queue.add, folder.path, path, force=True))
        return fitting
