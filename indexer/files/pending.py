"""Changed paths that wait until their changes have come to rest."""

# Paths are str with surrogates:

from __future__ import annotations

import os
from collections.abc import Iterable

MANY = 1000
"""Paths in one batch above which it names their directories instead."""


class Pending:
    """Debounce per path, with a limit for paths that never rest.

    Times are seconds of any one clock. Not thread-safe: one event loop uses it.

    Args:
        quiet: Seconds without a change after which a path is due.
        longest: Seconds after its first change at which it is due anyway.
    """

    def __init__(self, quiet: float, longest: float) -> None:
        self._quiet = quiet
        self._longest = longest
        self._seen: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, paths: Iterable[str], now: float) -> None:
        """Note that paths changed just now."""
        for path in paths:
            first, _ = self._seen.get(path, (now, now))
            self._seen[path] = (first, now)

    def next_due(self) -> float | None:
        """When the next path is due, None when there is none."""
        return min((self._due(first, last) for first, last in self._seen.values()), default=None)

    def take(self, now: float) -> list[str]:
        """Remove and return the paths that are due."""
        due = [path for path, (first, last) in self._seen.items() if self._due(first, last) <= now]
        for path in due:
            del self._seen[path]
        return due

    def _due(self, first: float, last: float) -> float:
        return min(last + self._quiet, first + self._longest)


def collapse(paths: Iterable[str], root: str) -> tuple[str, ...]:
    """The fewest paths to look at again: none below another, directories where there are more than ``MANY``."""
    left = _outermost(set(paths))
    while len(left) > MANY:
        left = _outermost({os.path.dirname(path) if path != root else root for path in left})
    return tuple(sorted(left))


def _outermost(paths: set[str]) -> set[str]:
    """The paths that lie below no other of them."""
    kept: set[str] = set()
    for path in paths:
        parent = os.path.dirname(path)
        while parent not in paths and parent != os.path.dirname(parent):
            parent = os.path.dirname(parent)
        if parent not in paths or parent == path:
            kept.add(path)
    return kept
