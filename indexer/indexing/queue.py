"""Paths to look at again: deduplicated, folder after folder, urgent ones first. Need not survive a crash."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import anyio

from indexer.broadcast import Notifier
from indexer.config import Config
from indexer.files.ignore import Ignore
from indexer.files.walk import global_excludes
from indexer.files.watch import Changes, WatchEvent, WatchProblem, watch
from indexer.folders.registry import KnownFolder
from indexer.folders.state import Folders

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dirty:
    """What to look at in one folder.

    Attributes:
        root: The folder.
        paths: Files or directories below it; empty means the whole folder.
        forced: Files to read again even if their size and time have not changed.
    """

    root: str
    paths: tuple[str, ...] = ()
    forced: frozenset[str] = frozenset()


class WorkQueue:
    """Folders and paths waiting for the text pass.

    Invariant: a root is in ``_order`` exactly when it has an entry in ``_paths``; an entry of None means the whole
    folder and swallows single paths.
    """

    def __init__(self) -> None:
        self._order: list[str] = []
        self._paths: dict[str, dict[str, None] | None] = {}
        self._forced: dict[str, set[str]] = {}
        self._notifier = Notifier()

    def __len__(self) -> int:
        """Folders with something to look at."""
        return len(self._order)

    def add(self, root: str, path: str | None = None, *, urgent: bool = False, force: bool = False) -> None:
        """Ask for a look at ``path``, or at the whole folder; asking twice is asking once."""
        if root not in self._paths:
            self._paths[root] = {}
            self._order.append(root)
        paths = self._paths[root]
        if path is None or path == root:
            self._paths[root] = None
        elif paths is not None:
            paths[path] = None
        if path is not None and force:
            self._forced.setdefault(root, set()).add(path)
        if urgent:
            self._order.remove(root)
            self._order.insert(0, root)
        self._notifier.notify()

    def drop(self, root: str) -> None:
        """Forget everything about a folder."""
        if self._paths.pop(root, ()) != ():
            self._order.remove(root)
        self._forced.pop(root, None)

    def waiting(self, root: str) -> bool:
        """Whether there is something to look at in the folder."""
        return root in self._paths

    def place(self, root: str) -> int:
        """Place of a waiting folder in the queue, from 0."""
        return self._order.index(root)

    async def take(self) -> Dirty:
        """Wait for work and take the first folder's."""
        while not self._order:
            await self._notifier.wait()
        root = self._order.pop(0)
        paths = self._paths.pop(root)
        forced = frozenset(self._forced.pop(root, ()))
        return Dirty(root, tuple(paths or ()), forced)


# What feeds the queue -----------------------------------------------------------------------------------------------
# Live folders: what the watcher and the clock report goes into the work queue; nothing is decided here.


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


async def keep_watching(folders: Folders, queue: WorkQueue, folders_changed: Notifier, notifier: Notifier) -> None:
    """Queue what the watcher sees, until cancelled; begins anew when folders come or go."""
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, folders, queue, notifier)
            await folders_changed.wait()
            tasks.cancel_scope.cancel()


async def _watch(folders: Folders, queue: WorkQueue, notifier: Notifier) -> None:
    async with watch({folder.path: folder.ignore for folder in folders}) as events:
        async for event in events:
            _note(event, folders, queue)
            notifier.notify()


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
