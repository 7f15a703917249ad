"""Keeps the index whole: runs the passes until damage is met, has it mended, and has the folders read again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio
import anyio.to_thread

from indexer import timing
from indexer.errors import FolderError, StoreError
from indexer.folder import Folders
from indexer.ledger import Ledger
from indexer.manifest import Manifest
from indexer.pulse import Pulse
from indexer.store.store import Store
from indexer.types import FileRow
from indexer.work_queue import WorkQueue

log = logging.getLogger(__name__)


async def keep_whole(
    store: Store,
    manifest: Manifest,
    queue: WorkQueue,
    folders: Folders,
    ledger: Ledger,
    pulse: Pulse,
    passes: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    restore: Callable[[], None],
) -> None:
    """Run what writes the index until cancelled, all of it anew after each repair.

    A pass remembers what it has committed; so none may be at work while that changes under it.

    Args:
        store: The index.
        manifest: Read off it again after a repair.
        queue: Takes the folders then.
        folders: Those being kept.
        ledger: Where errors are noted.
        pulse: Beaten when something has changed.
        passes: What writes the index; each runs until cancelled and can be begun again.
        restore: Writes down the list of folders if it went with the directory; for threads.
    """
    while True:
        async with anyio.create_task_group() as tasks:
            for run in passes:
                tasks.start_soon(run)
            tasks.start_soon(_verify, store, ledger)
            tasks.start_soon(_finish, store, queue, folders, pulse)
            await store.health.doubted.wait()
            log.warning("the index is damaged; it is being mended")
            tasks.cancel_scope.cancel()
        pulse.beat()
        await _mend(store, ledger)
        for sentence in store.damage:
            log.warning("index: %s", sentence)
        try:
            await anyio.to_thread.run_sync(restore)
        except FolderError as error:
            ledger.last_error = str(error)
        manifest.reload(await _files(store))
        for folder in folders:
            folder.scanned = False
            queue.add(folder.path)
        pulse.beat()


async def _mend(store: Store, ledger: Ledger) -> None:
    while True:
        try:
            return await store.mend()
        except StoreError as error:
            ledger.last_error = f"repair of the index: {error}"
            log.error("the index cannot be mended: %s; trying again in %g s", error, timing.INDEX_RETRY_S)
            await anyio.sleep(timing.INDEX_RETRY_S)


async def _files(store: Store) -> Sequence[FileRow]:
    """The manifest; none when the table has just been damaged again, which the next round mends."""
    try:
        return await store.files()
    except StoreError as error:
        log.error("the index cannot be read after its repair: %s", error)
        return ()


async def _verify(store: Store, ledger: Ledger) -> None:
    """Look through the files once a day, beginning now."""
    while True:
        try:
            await store.verify()
        except StoreError as error:
            ledger.last_error = str(error)
            log.warning("%s", error)
        await anyio.sleep(3600)


async def _finish(store: Store, queue: WorkQueue, folders: Folders, pulse: Pulse) -> None:
    """Say that lost text is there again as soon as every folder has been read."""
    while store.health.rebuilding:
        if all(folder.scanned and not queue.waiting(folder.path) for folder in folders):
            store.health.rebuilt()
            pulse.beat()
        else:
            await pulse.wait()
