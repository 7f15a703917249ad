"""The text pass: queued paths to chunks that keyword search finds. Scan, compare, parse, chunk, commit; no model.

Folders are worked on in slices of time, so that an edit in one folder waits for one slice of another at most.
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

from indexer import waits
from indexer.broadcast import Notifier
from indexer.documents.parse import FileReplaced
from indexer.documents.pool import LibraryMissing, ParserDied, Parsers, ParsersUnavailable
from indexer.errors import FolderError, ParseFailed, ParseSkipped, StoreError, unwrap_group
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.changes import (
    ATTEMPTS,
    FolderChanges,
    blank_row,
    cut_order,
    find_changes,
    index_entry,
    is_unchanged,
    prepare_file,
    row_count,
    scan_paths,
    skipped_row,
)
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import ScanRequest, WorkQueue
from indexer.status_types import WorkCounters
from indexer.types import File, FileRow, FileWrite

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)

EntrySender: TypeAlias = MemoryObjectSendStream[FileWrite | FileRow]

COMMIT_ROWS = 2048
"""Rows in one commit: each commit is a fragment that searches open until the next maintenance."""
COMMIT_DELAY = 1.0
"""Seconds a finished file may wait for its commit."""
FIRST_DELAY = 0.25
"""The same when nothing of a folder is searchable yet."""
SLICE_S = 2.0
"""Seconds that a folder is worked on while others wait."""


class TextPass:
    """Takes scan requests from the queue, one after the other, and brings the index in line with the disk."""

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
        self._current = ""
        self._queue_next = True  # queued requests and interrupted scans alternate

    @property
    def active(self) -> frozenset[str]:
        """Roots being worked on, those with an interrupted scan included."""
        return frozenset((*([self._current] if self._current else ()), *(scan.folder.path for scan in self._paused)))

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._paused and not (self._queue_next and self._queue):
                self._queue_next = True
                await self._run_slice(self._paused[0].folder, None)
            else:
                self._queue_next = False
                request = await self._queue.take()
                folder = self._folders.get(request.root)
                if folder is not None:
                    await self._run_slice(folder, request)

    async def _run_slice(self, folder: LiveFolder, request: ScanRequest | None) -> None:
        """Work on a folder for one slice: on a request, or, when None, on the scan that was interrupted first."""
        self._current = folder.path
        try:
            with unwrap_group():
                scan = self._paused.popleft() if request is None else await self._scan(folder, request)
                if scan is not None:
                    await self._process(scan)
        except StoreError as error:
            self._counters.last_error = str(error)
            log.error("%s: %s; trying again in %g s", folder.path, error, waits.INDEX_RETRY_S)
            folder.detail = f"{error}; trying again"
            self._drop_paused(folder.path)
            self._queue.add(folder.path)
            await anyio.sleep(waits.INDEX_RETRY_S)
        finally:
            self._current = ""
            folder.to_read = sum(len(scan.files) for scan in self._paused if scan.folder is folder)
            self._notifier.notify()

    def _drop_paused(self, root: str) -> set[str]:
        """Give up the interrupted scans of a folder, because all of it is about to be scanned.

        Returns:
            Files of them that were to be read whatever their size and time.
        """
        mine = [scan for scan in self._paused if scan.folder.path == root]
        self._paused = deque(scan for scan in self._paused if scan.folder.path != root)
        return {file.path for scan in mine for file in scan.files if file.path in scan.request.forced}

    async def _scan(self, folder: LiveFolder, request: ScanRequest) -> FolderScan | None:
        """Scan what is asked for and compare it with the index; None when the folder cannot be reached."""
        if not request.paths:
            request = replace(request, forced=request.forced | self._drop_paused(folder.path))
        folder.state, folder.detail = "scanning", ""
        self._notifier.notify()
        paths = request.paths or (folder.path,)
        try:
            files, skipped = await anyio.to_thread.run_sync(
                scan_paths, folder, paths, bool(self._manifest.rows(folder.path))
            )
        except FolderError as error:
            folder.available, folder.state = False, "unavailable"
            folder.detail = f"{error}; what was indexed stays searchable"
            self._drop_paused(folder.path)
            return None
        folder.available = True
        self._counters.files_walked += len(files)
        known = {path: row for target in paths for path, row in self._manifest.below(folder.path, target).items()}
        for entry in skipped:
            if entry.kind == "unreadable":  # nothing is known of what is below it: its rows stay
                for path in self._manifest.below(folder.path, entry.path):
                    known.pop(path, None)
        skipped_paths = {entry.path for entry in skipped}
        changes = await anyio.to_thread.run_sync(
            find_changes, files, skipped_paths, known, folder.model.recipe, request.forced
        )
        scan = FolderScan.of(folder, request, changes, known)
        rows = (skipped_row(folder, entry, known.get(entry.path)) for entry in skipped)
        scan.rows += [row for row in rows if row is not None]
        return scan

    async def _process(self, scan: FolderScan) -> None:
        """Read and commit for a slice. Rows are removed last, so that a moved file's vectors can still be reused."""
        folder = scan.folder
        if self._folders.get(folder.path) is not folder:
            return  # removed, or added again and queued as a whole
        folder.state, folder.to_read = "reading", len(scan.files)
        scan.slice_end = anyio.current_time() + SLICE_S
        self._notifier.notify()
        await self._write(scan)
        if scan.files:
            self._paused.append(scan)
            return
        missing = scan.still_missing(self._manifest)
        if missing:
            await self._reuse_vectors(folder)
            await self._store.remove(missing)
            for path in missing:
                self._manifest.drop(folder.path, path)
        if not scan.request.paths:
            folder.scanned, folder.last_scan = True, time.time()
        if not any(other.folder is folder for other in self._paused):
            folder.state = "waiting"

    def _slice_is_over(self, scan: FolderScan) -> bool:
        """Whether a slice's time is over and another folder has something to do."""
        return anyio.current_time() >= scan.slice_end and bool(self._queue or self._paused)

    async def _write(self, scan: FolderScan) -> None:
        """Read files and commit them until the slice is over."""
        send, receive = anyio.create_memory_object_stream[FileWrite | FileRow](32)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit, scan.folder, receive)
            async with send:
                while scan.rows:
                    await send.send(FileWrite(scan.rows.pop(0)))
                async with anyio.create_task_group() as readers:
                    for _ in range(self._parsers.workers + 1):  # one more, so that no worker waits for its next file
                        readers.start_soon(self._read, scan, send.clone())

    async def _reuse_vectors(self, folder: LiveFolder) -> None:
        """Give new chunks the vectors of equal text that is about to be removed (a rename, a move)."""
        spec = folder.model.spec
        if spec is not None and spec.dim:
            self._counters.vectors_reused += await self._store.reuse_pending(spec.key, spec.dim, folder.path)

    async def _read(self, scan: FolderScan, send: EntrySender) -> None:
        async with send:
            while scan.files and self._folders.get(scan.folder.path) is scan.folder:
                entry = await self._read_one(scan, scan.files.popleft())
                if entry is not None:
                    await send.send(entry)
                if self._slice_is_over(scan):  # asked after a file, so that every slice makes progress
                    break

    async def _read_one(self, scan: FolderScan, file: File) -> FileWrite | FileRow | None:
        """The per-file boundary: whatever happens to a file ends in its row."""
        folder, forced = scan.folder, scan.request.forced
        known = self._manifest.row(folder.path, file.path)
        attempts = known.attempts if known and (known.size, known.mtime_ns) == (file.size, file.mtime_ns) else 0
        blank = blank_row(file, folder, attempts)
        self._counters.files_read += 1
        try:
            order = cut_order(folder, file, known, forced=file.path in forced)
            prepared = await prepare_file(self._parsers, folder, file, order, few_files=scan.few_files)
            return index_entry(blank, known, prepared)
        except LibraryMissing as error:
            # Without a recipe every scan tries the file again: the package may be installed by then.
            waiting = replace(blank, outcome="skipped", reason=str(error), recipe="")
            return None if known is not None and is_unchanged(known, waiting) else FileWrite(waiting)
        except FileReplaced:
            self._queue.add(folder.path, file.path)  # its size and time are another file's: a row would be wrong
            return None
        except ParseSkipped as error:
            return FileWrite(replace(blank, outcome="skipped", reason=str(error)))
        except ParsersUnavailable as error:  # no fault of the file: it stays as it was and is tried again
            return FileWrite(replace(blank, reason=str(error)))
        except (ParseFailed, OSError) as error:
            if not await anyio.to_thread.run_sync(os.path.lexists, file.path):
                self._queue.add(folder.path, file.path)  # deleted since the scan: the next one drops its row
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
                entry: FileWrite | FileRow | None = None
                with anyio.move_on_after(max(0.0, deadline - anyio.current_time())):
                    try:
                        entry = await source.receive()
                    except anyio.EndOfStream:
                        break
                if entry is not None:
                    if not batch:
                        first = not self._store.chunk_count(folder.path)
                        deadline = anyio.current_time() + (FIRST_DELAY if first else COMMIT_DELAY)
                    batch.append(entry)
                if batch and (entry is None or sum(map(row_count, batch)) >= COMMIT_ROWS):
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
        for row in (*(write.row for write in writes), *touched):
            self._manifest.put(row)
        self._counters.chunks_written += sum(len(write.chunks) for write in writes)
        self._notifier.notify()


# One scan of a folder -----------------------------------------------------------------------------------------------

FEW_FILES = 4
"""Files to read for which no parser process is started, if they are small plain text."""


@dataclass(slots=True)
class FolderScan:
    """What is left to do of one scan, which may take several slices.

    Attributes:
        folder: The folder.
        request: What was scanned.
        files: Files still to be read.
        few_files: Whether there were at most ``FEW_FILES`` at the start.
        missing: Files that the scan did not find, with their rows as they were then.
        rows: Rows of files that are not read, still to be written.
        slice_end: Loop time at which another folder that waits is worked on.
    """

    folder: LiveFolder
    request: ScanRequest
    files: deque[File]
    few_files: bool
    missing: Mapping[str, FileRow]
    rows: list[FileRow] = field(default_factory=list)
    slice_end: float = 0.0

    @classmethod
    def of(
        cls, folder: LiveFolder, request: ScanRequest, changes: FolderChanges, known: Mapping[str, FileRow]
    ) -> FolderScan:
        """The scan that found these changes against the rows ``known``."""
        missing = {path: known[path] for path in changes.missing}
        return cls(folder, request, deque(changes.read), len(changes.read) <= FEW_FILES, missing)

    def still_missing(self, manifest: Manifest) -> list[str]:
        """The missing files that no later scan has found: their rows are the same still."""
        return [path for path, row in self.missing.items() if manifest.row(self.folder.path, path) == row]
