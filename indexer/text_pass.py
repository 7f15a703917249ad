"""The text pass: dirty paths to searchable words. Walk, compare, parse, chunk, commit; no model, no slot."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer.changes import ATTEMPTS, Changes, compare
from indexer.errors import FolderError, ParseFailed, ParseSkipped, StoreError
from indexer.folder import Folders, LiveFolder
from indexer.ledger import Ledger
from indexer.looking import look, refusal
from indexer.manifest import Manifest
from indexer.one_error import one_error
from indexer.preparing import as_before, blank_row, order_of, prepared, weight, write_of
from indexer.pulse import Pulse
from indexer.store.store import Store
from indexer.text.pool import LibraryMissing, ParserDied, Parsers, ParsersUnavailable
from indexer.types import File, FileRow, FileWrite
from indexer.work_queue import Dirty, WorkQueue

Sink: TypeAlias = MemoryObjectSendStream[FileWrite | FileRow]

log = logging.getLogger(__name__)

COMMIT_ROWS = 512
"""Chunks in one commit: below this a commit costs more than the rows in it (measured: 4 ms each at 12 rows)."""
COMMIT_DELAY = 1.0
"""Seconds a finished file may wait for its commit."""
FEW = 4
"""Files to read for which no parser process is started, if they are small plain text."""
RETRY_DELAY = 15.0
"""Seconds before a folder is tried again after the index refused a write (disk full, ...)."""


class TextPass:
    """Takes dirty folders from the queue, one after the other, and makes the index say what the disk says."""

    def __init__(
        self,
        store: Store,
        parsers: Parsers,
        manifest: Manifest,
        queue: WorkQueue,
        folders: Folders,
        ledger: Ledger,
        pulse: Pulse,
    ) -> None:
        self._store = store
        self._parsers = parsers
        self._manifest = manifest
        self._queue = queue
        self._folders = folders
        self._ledger = ledger
        self._pulse = pulse
        self.active = ""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            dirty = await self._queue.take()
            folder = self._folders.get(dirty.root)
            if folder is None:
                continue
            self.active = folder.path
            try:
                with one_error():
                    await self._scan(folder, dirty)
            except StoreError as error:
                self._ledger.last_error = str(error)
                log.error("%s: %s; trying again in %g s", folder.path, error, RETRY_DELAY)
                folder.detail = f"{error}; trying again"
                self._queue.add(folder.path)
                await anyio.sleep(RETRY_DELAY)
            finally:
                folder.to_read = 0
                self.active = ""
                self._pulse.beat()

    async def _scan(self, folder: LiveFolder, dirty: Dirty) -> None:
        folder.state, folder.detail = "scanning", ""
        self._pulse.beat()
        targets = dirty.paths or (folder.path,)
        try:
            files, refused = await anyio.to_thread.run_sync(
                look, folder, targets, bool(self._manifest.rows(folder.path))
            )
        except FolderError as error:
            folder.available, folder.state = False, "unavailable"
            folder.detail = f"{error}; what was indexed stays searchable"
            return
        folder.available = True
        self._ledger.files_walked += len(files)
        known = {path: row for target in targets for path, row in self._manifest.below(folder.path, target).items()}
        for skipped in refused:
            if skipped.kind == "unreadable":  # nothing is known of what is below it: its rows stay
                for path in self._manifest.below(folder.path, skipped.path):
                    known.pop(path, None)
        changes = compare(files, {s.path for s in refused}, known, folder.model.recipe, dirty.forced)
        folder.state, folder.to_read = "reading", len(changes.read)
        self._pulse.beat()
        rows = [row for s in refused if (row := refusal(folder, s, known.get(s.path))) is not None]
        await self._write(folder, changes, rows, dirty.forced)
        if not dirty.paths:
            folder.scanned, folder.last_scan = True, time.time()
        folder.state = "waiting"

    async def _write(self, folder: LiveFolder, changes: Changes, rows: list[FileRow], forced: frozenset[str]) -> None:
        """Read and commit; what is gone goes last, so that a moved file's vectors are still there to be taken."""
        send, receive = anyio.create_memory_object_stream[FileWrite | FileRow](32)
        files = iter(changes.read)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit, folder, receive)
            async with send:
                for row in rows:
                    await send.send(FileWrite(row))
                async with anyio.create_task_group() as readers:
                    for _ in range(self._parsers.workers + 1):  # one on its way while the others are read
                        readers.start_soon(self._read, folder, files, forced, send.clone())
        if changes.gone:
            await self._take_vectors(folder)
            await self._store.remove(changes.gone)
            for path in changes.gone:
                self._manifest.drop(folder.path, path)

    async def _take_vectors(self, folder: LiveFolder) -> None:
        """Let new chunks have the vectors of equal text that is about to go (a rename, a move)."""
        spec = folder.model.spec
        if spec is not None and spec.dim:
            self._ledger.vectors_reused += await self._store.reuse_pending(spec.key, spec.dim, folder.path)

    async def _read(
        self,
        folder: LiveFolder,
        files: Iterator[File],
        forced: frozenset[str],
        sink: Sink,
    ) -> None:
        async with sink:
            for file in files:
                written = await self._read_one(folder, file, forced)
                if written is not None:
                    await sink.send(written)

    async def _read_one(self, folder: LiveFolder, file: File, forced: frozenset[str]) -> FileWrite | FileRow | None:
        """The per-file boundary: whatever happens to a file ends in its row."""
        known = self._manifest.row(folder.path, file.path)
        attempts = known.attempts if known and (known.size, known.mtime_ns) == (file.size, file.mtime_ns) else 0
        blank = blank_row(file, folder, attempts)
        self._ledger.files_read += 1
        try:
            order = order_of(folder, file, known, forced=file.path in forced)
            made = await prepared(self._parsers, folder, file, order, few=folder.to_read <= FEW)
            return write_of(blank, known, made)
        except LibraryMissing as error:  # without a recipe the row is looked at by every scan: the package may come
            waiting = replace(blank, outcome="skipped", reason=str(error), recipe="")
            return None if known is not None and as_before(known, waiting) else FileWrite(waiting)
        except ParseSkipped as error:
            return FileWrite(replace(blank, outcome="skipped", reason=str(error)))
        except ParsersUnavailable as error:  # no fault of the file: it stays as it was and is tried again
            return FileWrite(replace(blank, reason=str(error)))
        except (ParseFailed, OSError) as error:
            if not await anyio.to_thread.run_sync(os.path.lexists, file.path):
                self._queue.add(folder.path, file.path)  # gone since the walk: the next look drops its row
                return None
            reason = str(error) if isinstance(error, ParseFailed) else f"cannot be read: {error.strerror or error}"
            log.info("%s: %s", file.path, reason)
            if isinstance(error, ParserDied) and attempts + 1 < ATTEMPTS:
                self._queue.add(folder.path, file.path)  # once more right after this scan
            return FileWrite(replace(blank, reason=reason, attempts=attempts + 1))
        except Exception as error:
            log.exception("%s: unexpected failure", file.path)
            reason = f"unexpected {type(error).__name__}: {error}"[:300]
            return FileWrite(replace(blank, reason=reason, attempts=attempts + 1))
        finally:
            folder.to_read = max(0, folder.to_read - 1)

    async def _commit(self, folder: LiveFolder, source: MemoryObjectReceiveStream[FileWrite | FileRow]) -> None:
        """Gather whole files into commits of at least ``COMMIT_ROWS`` chunks, none waiting longer than the delay."""
        batch: list[FileWrite | FileRow] = []
        deadline = math.inf
        async with source:
            while True:
                written: FileWrite | FileRow | None = None
                with anyio.move_on_after(max(0.0, deadline - anyio.current_time())):
                    try:
                        written = await source.receive()
                    except anyio.EndOfStream:
                        break
                if written is not None:
                    if not batch:
                        deadline = anyio.current_time() + COMMIT_DELAY
                    batch.append(written)
                if batch and (written is None or sum(map(weight, batch)) >= COMMIT_ROWS):
                    await self._flush(batch)
                    batch, deadline = [], math.inf
        await self._flush(batch)

    async def _flush(self, batch: list[FileWrite | FileRow]) -> None:
        writes = [entry for entry in batch if isinstance(entry, FileWrite)]
        touched = [entry for entry in batch if isinstance(entry, FileRow)]
        if writes:
            await self._store.replace(writes)
        if touched:
            await self._store.touch(touched)
        for row in (*(written.row for written in writes), *touched):
            self._manifest.put(row)
        self._ledger.chunks_written += sum(len(written.chunks) for written in writes)
        self._pulse.beat()
