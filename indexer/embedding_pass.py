"""The embedding pass: chunks without a vector to vectors, micro-batch by micro-batch, behind every tool call.

One task a model: each waits at the slot by itself, and the slot's policy decides whose turn it is. What is to be
embedded is asked of the store (chunks that have no vector), never remembered: a crash loses at most the vectors
that had not been committed yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer.errors import SlotUnavailable, StoreError
from indexer.folder import Folders, LiveFolder
from indexer.ledger import Ledger
from indexer.manifest import Manifest
from indexer.model.embedder import ModelSpec
from indexer.model.lent import Lent
from indexer.model.priority_lock import Priority
from indexer.model.slot import ModelSlot
from indexer.one_error import one_error
from indexer.pulse import Pulse
from indexer.store.store import Store
from indexer.types import Matrix, StoredChunk
from indexer.work_queue import WorkQueue

log = logging.getLogger(__name__)

WINDOW = 2048
"""Chunks sorted by length together: enough for batches without padding, small enough to see new work soon."""
COMMIT_ROWS = 256
"""Vectors in one commit."""
COMMIT_DELAY = 5.0
"""Seconds a finished vector may wait for its commit."""
RETRY_DELAY = 300.0
"""Seconds before a model that failed for good is asked for again, if nothing changes before."""

Embedded = tuple[Sequence[StoredChunk], Matrix]


class EmbeddingPass:
    """Embeds whatever has no vector yet, one task for each model in use."""

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
        """Work until cancelled: a task for each model, started when a folder first names it."""
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
        while True:
            folder = await self._next(spec)
            try:
                async with self._slot.use(spec, Priority.INDEX, folder_rank=folder.rank) as lent:
                    progress = await self._embed_folder(folder, lent)
                if not progress:  # what is left waits for the text pass
                    await self._pulse.wait()
                folder.embedding_problem = ""
            except SlotUnavailable as error:
                folder.embedding_problem = f"{error}. {error.hint}".strip()
                log.warning("%s: not embedded: %s", folder.path, folder.embedding_problem)
                await self._pause(error.retry_after or RETRY_DELAY)
            except StoreError as error:
                self._ledger.last_error = folder.embedding_problem = str(error)
                log.error("%s: %s", folder.path, error)
                await self._pause(RETRY_DELAY / 20)
            finally:
                self.active.pop(spec.key, None)
                self._pulse.beat()

    async def _pause(self, seconds: float) -> None:
        self._pulse.beat()
        await anyio.sleep(seconds)

    async def _next(self, spec: ModelSpec) -> LiveFolder:
        """The first folder of this model with chunks to embed; waits until there is one."""
        while True:
            for folder in self._folders:
                mine = folder.model.spec is not None and folder.model.spec.load_key == spec.load_key
                if mine and self._store.pending_count(spec.key, folder.path):
                    return folder
            await self._pulse.wait()

    async def _embed_folder(self, folder: LiveFolder, lent: Lent) -> bool:
        """Embed until the folder is done, or somebody who goes first is waiting. Returns whether anything was."""
        spec = lent.spec
        before = self._ledger.chunks_embedded + self._ledger.vectors_reused
        self.active[spec.key] = folder.path
        while not lent.should_yield():
            chunks = await self._store.pending(spec.key, spec.dim, folder.path, WINDOW)
            if not chunks:
                break
            taken = await self._store.reuse_vectors(spec.key, spec.dim, chunks)
            self._ledger.vectors_reused += len(taken)
            fresh = [chunk for chunk in chunks if chunk.chunk_id not in taken]
            fresh = await anyio.to_thread.run_sync(self._fitting, folder, fresh)
            if not fresh and not taken:
                break
            with one_error():
                await self._embed_window(folder, lent, fresh)
            self._pulse.beat()
        return self._ledger.chunks_embedded + self._ledger.vectors_reused > before

    async def _embed_window(self, folder: LiveFolder, lent: Lent, chunks: list[StoredChunk]) -> None:
        """Embed chunks shortest first while another task commits: the model never waits for the disk."""
        chunks.sort(key=lambda chunk: len(chunk.passage))
        lengths = [len(chunk.passage) for chunk in chunks]
        send, receive = anyio.create_memory_object_stream[Embedded](8)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit, lent.spec, receive)
            async with send:
                at = 0
                while at < len(chunks) and not (at and lent.should_yield()):
                    batch = chunks[at : at + lent.take(lengths[at:])]
                    at += len(batch)
                    await self._embed_batch(lent, batch, send)

    async def _embed_batch(self, lent: Lent, batch: list[StoredChunk], sink: MemoryObjectSendStream[Embedded]) -> None:
        started = anyio.current_time()
        matrix = await lent.embed_passages([chunk.passage for chunk in batch])
        self._ledger.embedded(len(batch), anyio.current_time() - started)
        await sink.send((batch, matrix))

    async def _commit(self, spec: ModelSpec, source: MemoryObjectReceiveStream[Embedded]) -> None:
        """Append vectors in commits of ``COMMIT_ROWS`` or ``COMMIT_DELAY``; the last ones also when cancelled."""
        waiting: list[Embedded] = []
        oldest = anyio.current_time()
        try:
            async with source:
                async for embedded in source:
                    if not waiting:
                        oldest = anyio.current_time()
                    waiting.append(embedded)
                    rows = sum(len(chunks) for chunks, _ in waiting)
                    if rows >= COMMIT_ROWS or anyio.current_time() - oldest >= COMMIT_DELAY:
                        batch, waiting = waiting, []
                        await self._append(spec, batch)
        finally:
            with anyio.move_on_after(2, shield=True):
                await self._append(spec, waiting)

    async def _append(self, spec: ModelSpec, embedded: list[Embedded]) -> None:
        if not embedded:
            return
        await self._store.add_vectors(spec.key, spec.dim, embedded)
        self._pulse.beat()

    def _fitting(self, folder: LiveFolder, chunks: list[StoredChunk]) -> list[StoredChunk]:
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
