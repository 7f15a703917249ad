"""Repair and maintenance: restarts the passes after each repair of the index, and compacts it when nobody works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from indexer import waits
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
    """Run the tasks that write the index until cancelled. On damage: cancel them, repair the store, start them again.

    A pass remembers what it has committed, so none may run while a repair changes that. All folders are scanned
    again afterwards.

    Args:
        store: The index.
        manifest: Loaded again after a repair.
        queue: Gets the folders then.
        folders: The folders that are indexed.
        counters: Where errors are recorded.
        notifier: Notified when something has changed.
        passes: The tasks that write the index; each runs until cancelled and can be started again.
        restore: Writes the list of folders again if it was lost with the directory; called in a thread.
    """
    while True:
        async with anyio.create_task_group() as tasks:
            for run in passes:
                tasks.start_soon(run)
            tasks.start_soon(_verify_files, store, counters)
            tasks.start_soon(_end_rebuilding, store, queue, folders, notifier)
            await store.health.damage_suspected.wait()
            log.warning("the index is damaged; it is being mended")
            tasks.cancel_scope.cancel()
        notifier.notify()
        await _repair(store, counters)
        for sentence in store.damage:
            log.warning("index: %s", sentence)
        try:
            await anyio.to_thread.run_sync(restore)
        except FolderError as error:
            counters.last_error = str(error)
        manifest.reload(await _file_rows(store))
        for folder in folders:
            folder.scanned = False
            queue.add(folder.path)
        notifier.notify()


async def _repair(store: Store, counters: WorkCounters) -> None:
    while True:
        try:
            return await store.repair()
        except StoreError as error:
            counters.last_error = f"repair of the index: {error}"
            log.error("the index cannot be mended: %s; trying again in %g s", error, waits.INDEX_RETRY_S)
            await anyio.sleep(waits.INDEX_RETRY_S)


async def _file_rows(store: Store) -> Sequence[FileRow]:
    """The rows of the manifest; none when the table has been damaged again, which the next round repairs."""
    try:
        return await store.files()
    except StoreError as error:
        log.error("the index cannot be read after its repair: %s", error)
        return ()


async def _verify_files(store: Store, counters: WorkCounters) -> None:
    """Check hourly whether the daily verification of the files on disk is due, beginning now."""
    while True:
        try:
            await store.verify()
        except StoreError as error:
            counters.last_error = str(error)
            log.warning("%s", error)
        await anyio.sleep(3600)


async def _end_rebuilding(store: Store, queue: WorkQueue, folders: Folders, notifier: Notifier) -> None:
    """End the state ``rebuilding`` when every folder has been scanned: lost text is there again."""
    while store.health.rebuilding:
        if all(folder.scanned and not queue.is_waiting(folder.path) for folder in folders):
            store.health.rebuild_finished()
            notifier.notify()
        else:
            await notifier.wait()


# Maintenance --------------------------------------------------------------------------------------------------------


async def maintain(store: Store, counters: WorkCounters, notifier: Notifier, idle: Callable[[], bool]) -> None:
    """Run the store's maintenance until cancelled: urgent maintenance at once, the rest when no pass works."""
    while True:
        if store.maintenance_urgent():
            await _maintain_once(store, counters, notifier)
        elif store.maintenance_due() and idle():
            with anyio.move_on_after(waits.MAINTENANCE_QUIET_S) as quiet:
                await notifier.wait()
            if quiet.cancelled_caught and idle():
                await _maintain_once(store, counters, notifier)
        else:
            # Not for ever: deleted text must leave the disk although nothing else happens.
            with anyio.move_on_after(max(1.0, store.maintenance_due_in())):
                await notifier.wait()


async def _maintain_once(store: Store, counters: WorkCounters, notifier: Notifier) -> None:
    try:
        await store.maintain()
    except StoreError as error:
        counters.last_error = f"maintenance: {error}"
        log.warning("maintenance: %s", error)
    notifier.notify()
