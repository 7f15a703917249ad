"""The text pass: dirty paths to searchable words. Walk, compare, parse, chunk, commit; no model, no slot.

Folders take turns: a folder of many files is read in slices, so that an edit in another waits for one slice of it.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer import timing
from indexer.broadcast import Notifier
from indexer.documents.pool import LibraryMissing, ParserDied, Parsers, ParsersUnavailable
from indexer.errors import FolderError, ParseFailed, ParseSkipped, StoreError, unwrap_group
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.changes import (
    ATTEMPTS,
    Changes,
    as_before,
    blank_row,
    compare,
    look,
    order_of,
    prepared,
    refusal,
    weight,
    write_of,
)
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import Dirty, WorkQueue
from indexer.status_types import WorkCounters
from indexer.types import File, FileRow, FileWrite

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)


Sink: TypeAlias = MemoryObjectSendStream[FileWrite | FileRow]

COMMIT_ROWS = 2048
"""Chunks in one commit: each is a fragment that searches open until the next maintenance."""
COMMIT_DELAY = 1.0
"""Seconds a finished file may wait for its commit."""
FIRST_DELAY = 0.25
"""The same when nothing of a folder is searchable yet."""
SLICE = 2.0
"""Seconds that a folder is worked on while others wait."""


class TextPass:
    """Takes dirty folders from the queue, one after the other, and makes the index say what the disk says."""

    def __init__(
        self,
        store: Store,
        parsers: Parsers,
        manifest: Manifest,
        queue: WorkQueue,
        folders: Folders,
        counters: WorkCounters,
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._parsers = parsers
        self._manifest = manifest
        self._queue = queue
        self._folders = folders
        self._counters = counters
        self._notifier = notifier
        self._paused: deque[FolderScan] = deque()
        self._now = ""
        self._fresh = True  # whose turn it is: what is dirty, or what has been interrupted

    @property
    def active(self) -> frozenset[str]:
        """Roots being worked on, those whose turn has passed among them."""
        return frozenset((*([self._now] if self._now else ()), *(scan.folder.path for scan in self._paused)))

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._paused and not (self._fresh and self._queue):
                self._fresh = True
                await self._turn(self._paused[0].folder, None)
            else:
                self._fresh = False
                dirty = await self._queue.take()
                folder = self._folders.get(dirty.root)
                if folder is not None:
                    await self._turn(folder, dirty)

    async def _turn(self, folder: LiveFolder, dirty: Dirty | None) -> None:
        """One slice of a folder's work: of what is dirty, or of the scan that has waited longest."""
        self._now = folder.path
        try:
            with unwrap_group():
                scan = self._paused.popleft() if dirty is None else await self._scan(folder, dirty)
                if scan is not None:
                    await self._work_on(scan)
        except StoreError as error:
            self._counters.last_error = str(error)
            log.error("%s: %s; trying again in %g s", folder.path, error, timing.INDEX_RETRY_S)
            folder.detail = f"{error}; trying again"
            self._drop_paused(folder.path)
            self._queue.add(folder.path)
            await anyio.sleep(timing.INDEX_RETRY_S)
        finally:
            self._now = ""
            folder.to_read = sum(len(scan.files) for scan in self._paused if scan.folder is folder)
            self._notifier.notify()

    def _drop_paused(self, root: str) -> set[str]:
        """Give up what has been interrupted in a folder, because all of it is about to be looked at.

        Returns:
            Files of it that were to be read whatever their size and time.
        """
        mine = [scan for scan in self._paused if scan.folder.path == root]
        self._paused = deque(scan for scan in self._paused if scan.folder.path != root)
        return {file.path for scan in mine for file in scan.files if file.path in scan.dirty.forced}

    async def _scan(self, folder: LiveFolder, dirty: Dirty) -> FolderScan | None:
        """Look at what is dirty and compare; None when the folder cannot be reached."""
        if not dirty.paths:
            dirty = replace(dirty, forced=dirty.forced | self._drop_paused(folder.path))
        folder.state, folder.detail = "scanning", ""
        self._notifier.notify()
        targets = dirty.paths or (folder.path,)
        try:
            files, refused = await anyio.to_thread.run_sync(
                look, folder, targets, bool(self._manifest.rows(folder.path))
            )
        except FolderError as error:
            folder.available, folder.state = False, "unavailable"
            folder.detail = f"{error}; what was indexed stays searchable"
            self._drop_paused(folder.path)
            return None
        folder.available = True
        self._counters.files_walked += len(files)
        known = {path: row for target in targets for path, row in self._manifest.below(folder.path, target).items()}
        for skipped in refused:
            if skipped.kind == "unreadable":  # nothing is known of what is below it: its rows stay
                for path in self._manifest.below(folder.path, skipped.path):
                    known.pop(path, None)
        paths = {s.path for s in refused}
        changes = await anyio.to_thread.run_sync(compare, files, paths, known, folder.model.recipe, dirty.forced)
        scan = FolderScan.of(folder, dirty, changes, known)
        scan.rows += [row for s in refused if (row := refusal(folder, s, known.get(s.path))) is not None]
        return scan

    async def _work_on(self, scan: FolderScan) -> None:
        """Read and commit for a slice; what is gone goes last, so that a moved file's vectors can still be taken."""
        folder = scan.folder
        if self._folders.get(folder.path) is not folder:
            return  # removed, or named anew and queued as a whole
        folder.state, folder.to_read = "reading", len(scan.files)
        scan.until = anyio.current_time() + SLICE
        self._notifier.notify()
        await self._write(scan)
        if scan.files:
            self._paused.append(scan)
            return
        gone = scan.still_gone(self._manifest)
        if gone:
            await self._take_vectors(folder)
            await self._store.remove(gone)
            for path in gone:
                self._manifest.drop(folder.path, path)
        if not scan.dirty.paths:
            folder.scanned, folder.last_scan = True, time.time()
        if not any(other.folder is folder for other in self._paused):
            folder.state = "waiting"

    def _others_wait(self, scan: FolderScan) -> bool:
        """Whether a slice is over: its time is, and somebody else has something to do."""
        return anyio.current_time() >= scan.until and bool(self._queue or self._paused)

    async def _write(self, scan: FolderScan) -> None:
        """Read files and commit them until the slice is over."""
        send, receive = anyio.create_memory_object_stream[FileWrite | FileRow](32)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit, scan.folder, receive)
            async with send:
                while scan.rows:
                    await send.send(FileWrite(scan.rows.pop(0)))
                async with anyio.create_task_group() as readers:
                    for _ in range(self._parsers.workers + 1):  # one on its way while the others are read
                        readers.start_soon(self._read, scan, send.clone())

    async def _take_vectors(self, folder: LiveFolder) -> None:
        """Let new chunks have the vectors of equal text that is about to go (a rename, a move)."""
        spec = folder.model.spec
        if spec is not None and spec.dim:
            self._counters.vectors_reused += await self._store.reuse_pending(spec.key, spec.dim, folder.path)

    async def _read(self, scan: FolderScan, sink: Sink) -> None:
        async with sink:
            while scan.files and self._folders.get(scan.folder.path) is scan.folder:
                written = await self._read_one(scan, scan.files.popleft())
                if written is not None:
                    await sink.send(written)
                if self._others_wait(scan):  # asked afterwards: every slice gets on
                    break

    async def _read_one(self, scan: FolderScan, file: File) -> FileWrite | FileRow | None:
        """The per-file boundary: whatever happens to a file ends in its row."""
        folder, forced = scan.folder, scan.dirty.forced
        known = self._manifest.row(folder.path, file.path)
        attempts = known.attempts if known and (known.size, known.mtime_ns) == (file.size, file.mtime_ns) else 0
        blank = blank_row(file, folder, attempts)
        self._counters.files_read += 1
        try:
            order = order_of(folder, file, known, forced=file.path in forced)
            made = await prepared(self._parsers, folder, file, order, few=scan.few)
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
                        first = not self._store.chunk_count(folder.path)
                        deadline = anyio.current_time() + (FIRST_DELAY if first else COMMIT_DELAY)
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
        self._counters.chunks_written += sum(len(written.chunks) for written in writes)
        self._notifier.notify()


# One scan of a folder -----------------------------------------------------------------------------------------------
# One look at a folder while it is being worked off, perhaps in several slices.

FEW = 4
"""Files to read for which no parser process is started, if they are small plain text."""


@dataclass(slots=True)
class FolderScan:
    """What a comparison of a folder with the index found, as far as it has not been done yet.

    Attributes:
        folder: The folder.
        dirty: What was looked at.
        files: Files still to be read.
        few: There were hardly any from the start.
        gone: Files that the walk did not meet, with their rows as they were then.
        rows: Rows of files that are not read, still to be written.
        until: Loop time from which others' turn comes, if there are others.
    """

    folder: LiveFolder
    dirty: Dirty
    files: deque[File]
    few: bool
    gone: Mapping[str, FileRow]
    rows: list[FileRow] = field(default_factory=list)
    until: float = 0.0

    @classmethod
    def of(cls, folder: LiveFolder, dirty: Dirty, changes: Changes, known: Mapping[str, FileRow]) -> FolderScan:
        """A scan from the outcome of a comparison with the rows that are ``known``."""
        gone = {path: known[path] for path in changes.gone}
        return cls(folder, dirty, deque(changes.read), len(changes.read) <= FEW, gone)

    def still_gone(self, manifest: Manifest) -> list[str]:
        """Files that went and that no later look has met: their rows are what they were."""
        return [path for path, row in self.gone.items() if manifest.row(self.folder.path, path) == row]
