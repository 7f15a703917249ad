"""Paths to look at again: deduplicated, folder after folder, urgent ones first. Need not survive a crash."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.pulse import Pulse


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
        self._pulse = Pulse()

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
        self._pulse.beat()

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
            await self._pulse.wait()
        root = self._order.pop(0)
        paths = self._paths.pop(root)
        forced = frozenset(self._forced.pop(root, ()))
        return Dirty(root, tuple(paths or ()), forced)
