"""Keeps the index whole: runs the passes until damage is met, has it mended, and has the folders read again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from indexer import timing
from indexer.broadcast import Notifier
from indexer.errors import FolderError, StoreError
from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue
from indexer.status_types import WorkCounters
from indexer.types import FileRow

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)


async def supervise(
    store: Store,
    manifest: Manifest,
    queue: WorkQueue,
    folders: Folders,
    counters: WorkCounters,
    notifier: Notifier,
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
        counters: Where errors are noted.
        notifier: Beaten when something has changed.
        passes: What writes the index; each runs until cancelled and can be begun again.
        restore: Writes down the list of folders if it went with the directory; for threads.
    """
    while True:
        async with anyio.create_task_group() as tasks:
            for run in passes:
                tasks.start_soon(run)
            tasks.start_soon(_verify, store, counters)
            tasks.start_soon(_finish, store, queue, folders, notifier)
            await store.health.damage_suspected.wait()
            log.warning("the index is damaged; it is being mended")
            tasks.cancel_scope.cancel()
        notifier.notify()
        await _mend(store, counters)
        for sentence in store.damage:
            log.warning("index: %s", sentence)
        try:
            await anyio.to_thread.run_sync(restore)
        except FolderError as error:
            counters.last_error = str(error)
        manifest.reload(await _files(store))
        for folder in folders:
            folder.scanned = False
            queue.add(folder.path)
        notifier.notify()


async def _mend(store: Store, counters: WorkCounters) -> None:
    while True:
        try:
            return await store.repair()
        except StoreError as error:
            counters.last_error = f"repair of the index: {error}"
            log.error("the index cannot be mended: %s; trying again in %g s", error, timing.INDEX_RETRY_S)
            await anyio.sleep(timing.INDEX_RETRY_S)


async def _files(store: Store) -> Sequence[FileRow]:
    """The manifest; none when the table has just been damaged again, which the next round mends."""
    try:
        return await store.files()
    except StoreError as error:
        log.error("the index cannot be read after its repair: %s", error)
        return ()


async def _verify(store: Store, counters: WorkCounters) -> None:
    """Look through the files once a day, beginning now."""
    while True:
        try:
            await store.verify()
        except StoreError as error:
            counters.last_error = str(error)
            log.warning("%s", error)
        await anyio.sleep(3600)


async def _finish(store: Store, queue: WorkQueue, folders: Folders, notifier: Notifier) -> None:
    """Say that lost text is there again as soon as every folder has been read."""
    while store.health.rebuilding:
        if all(folder.scanned and not queue.waiting(folder.path) for folder in folders):
            store.health.rebuild_finished()
            notifier.notify()
        else:
            await notifier.wait()


# Maintenance --------------------------------------------------------------------------------------------------------
# Keeps the index small and quick: runs the store's maintenance when it is due and nobody is working.


async def maintain(store: Store, counters: WorkCounters, notifier: Notifier, idle: Callable[[], bool]) -> None:
    """Run until cancelled: urgent maintenance at once, the rest when nothing has been done for a while."""
    while True:
        if store.maintenance_urgent():
            await _run(store, counters, notifier)
        elif store.maintenance_due() and idle():
            with anyio.move_on_after(timing.MAINTENANCE_QUIET_S) as quiet:
                await notifier.wait()
            if quiet.cancelled_caught and idle():
                await _run(store, counters, notifier)
        else:
            # Deleted rows must be erased even when nothing else happens.
            with anyio.move_on_after(max(1.0, store.maintenance_due_in())):
                await notifier.wait()


async def _run(store: Store, counters: WorkCounters, notifier: Notifier) -> None:
    try:
        await store.maintain()
    except StoreError as error:
        counters.last_error = f"maintenance: {error}"
        log.warning("maintenance: %s", error)
    notifier.notify()
