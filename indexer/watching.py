"""Live folders: what the watcher and the clock report goes into the work queue; nothing is decided here."""

from __future__ import annotations

import logging

import anyio

from indexer.config import Config
from indexer.files.git_excludes import global_excludes
from indexer.files.ignore import Ignore
from indexer.files.watch import Changes, WatchEvent, WatchProblem, watch
from indexer.folder import Folders
from indexer.known_folders import KnownFolder
from indexer.pulse import Pulse
from indexer.work_queue import WorkQueue

log = logging.getLogger(__name__)


def ignore_for(known: KnownFolder, config: Config) -> Ignore:
    """The rules of one folder: its own, the configuration's, and never our own data."""
    index = config.index
    return Ignore(
        known.path,
        exclude=(*index.exclude, *known.exclude),
        include=(*index.include, *known.include),
        hidden=index.hidden,
        never=(str(config.data_dir),),
        global_excludes=global_excludes(),
        max_bytes=int(index.max_file_mb * (1 << 20)),
    )


async def keep_watching(folders: Folders, queue: WorkQueue, folders_changed: Pulse, pulse: Pulse) -> None:
    """Queue what the watcher sees, until cancelled; begins anew when folders come or go."""
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, folders, queue, pulse)
            await folders_changed.wait()
            tasks.cancel_scope.cancel()


async def _watch(folders: Folders, queue: WorkQueue, pulse: Pulse) -> None:
    async with watch({folder.path: folder.ignore for folder in folders}) as events:
        async for event in events:
            _note(event, folders, queue)
            pulse.beat()


def _note(event: WatchEvent, folders: Folders, queue: WorkQueue) -> None:
    folder = folders.get(event.root)
    if folder is None:
        return
    if isinstance(event, Changes):
        for path in event.paths:
            queue.add(event.root, path)
    elif isinstance(event, WatchProblem):
        folder.unwatched = f"changes are found by looking again now and then: {event.reason}; {event.remedy}"
        log.warning("%s: %s", event.root, folder.unwatched)
    else:
        folder.unwatched = ""


async def rescan_now_and_then(folders: Folders, queue: WorkQueue, seconds: float) -> None:
    """Queue every folder each ``seconds`` (0: never): a lost event is mended by the next walk."""
    while seconds > 0:
        await anyio.sleep(seconds)
        for folder in folders:
            queue.add(folder.path)
