"""The work queue: paths to scan again, folder after folder, urgent ones first; and what fills it: watcher and clock.

It is not kept on disk: after a crash every folder is scanned whole.
"""

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
class ScanRequest:
    """What to scan in one folder.

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
        """Folders with something to scan."""
        return len(self._order)

    def add(self, root: str, path: str | None = None, *, urgent: bool = False, force: bool = False) -> None:
        """Ask for a scan of ``path``, or of the whole folder; asking twice is the same as once.

        Args:
            root: The folder.
            path: What to scan; None for all of it.
            urgent: Put the folder first in the queue.
            force: Read the file again even if its size and time have not changed.
        """
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

    def is_waiting(self, root: str) -> bool:
        """Whether there is something to scan in the folder."""
        return root in self._paths

    def position(self, root: str) -> int:
        """Position of a waiting folder in the queue, from 0."""
        return self._order.index(root)

    async def take(self) -> ScanRequest:
        """Wait for work and take the first folder's."""
        while not self._order:
            await self._notifier.wait()
        root = self._order.pop(0)
        paths = self._paths.pop(root)
        forced = frozenset(self._forced.pop(root, ()))
        return ScanRequest(root, tuple(paths or ()), forced)


# What fills the queue -----------------------------------------------------------------------------------------------


def ignore_rules(known: KnownFolder, config: Config) -> Ignore:
    """What not to index in one folder: its own rules, the configuration's, and our own data directory."""
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


async def watch_folders(folders: Folders, queue: WorkQueue, folders_changed: Notifier, notifier: Notifier) -> None:
    """Queue what the watcher reports, until cancelled; watches anew when folders are added or removed."""
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, folders, queue, notifier)
            await folders_changed.wait()
            tasks.cancel_scope.cancel()


async def _watch(folders: Folders, queue: WorkQueue, notifier: Notifier) -> None:
    async with watch({folder.path: folder.ignore for folder in folders}) as events:
        async for event in events:
            _handle_event(event, folders, queue)
            notifier.notify()


def _handle_event(event: WatchEvent, folders: Folders, queue: WorkQueue) -> None:
    folder = folders.get(event.root)
    if folder is None:
        return
    if isinstance(event, Changes):
        for path in event.paths:
            queue.add(event.root, path)
    elif isinstance(event, WatchProblem):
        folder.watch_problem = f"changes are found by looking again now and then: {event.reason}; {event.remedy}"
        log.warning("%s: %s", event.root, folder.watch_problem)
    else:
        folder.watch_problem = ""


async def rescan_periodically(folders: Folders, queue: WorkQueue, seconds: float) -> None:
    """Queue every folder each ``seconds`` (0: never), so that the next scan finds what the watcher missed."""
    while seconds > 0:
        await anyio.sleep(seconds)
        for folder in folders:
            queue.add(folder.path)
