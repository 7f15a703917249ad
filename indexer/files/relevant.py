"""Which of the changed paths matter."""

# Paths are str with surrogates:

from __future__ import annotations

import os
from collections.abc import Iterable

from indexer.files.ignore import IGNORE_FILES, Ignore, Level


def relevant(paths: Iterable[str], ignore: Ignore) -> set[str]:
    """Drop what the rules leave out and what was reached through a link. Blocking: run it in a thread.

    A secret is kept, so that it gets reported; an ignore file stands for its directory, whose files it rules.

    Args:
        paths: Absolute, there or gone.
        ignore: The rules of their root.
    """
    levels: dict[str, tuple[Level, ...] | None] = {}
    found: set[str] = set()
    for path in paths:
        if path == ignore.root:
            found.add(path)
            continue
        parent, name = os.path.split(path)
        if parent not in levels:
            levels[parent] = _levels(parent, ignore)
        here = levels[parent]
        if here is None:
            continue
        if name in IGNORE_FILES:
            found.add(parent)
            continue
        verdict = ignore.entry(here, path, name, os.path.isdir(path) and not os.path.islink(path))
        if not verdict.ignored or verdict.secret:
            found.add(path)
    return found


def _levels(directory: str, ignore: Ignore) -> tuple[Level, ...] | None:
    """The rules inside a directory, None if it is left out, out of the root or behind a link."""
    inside = directory == ignore.root or directory.startswith(ignore.root.rstrip("/") + "/")
    if not inside or os.path.realpath(directory) != directory or ignore.verdict(directory, is_dir=True).ignored:
        return None
    return ignore.at(directory)
