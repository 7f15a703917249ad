"""What is broken is set aside, not deleted: moved to ``damaged/<time>/``, of which the newest few stay."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from indexer.store.fault import explained

COPIES = 2
"""Times of which what was set aside is kept; older ones are deleted, so that a bad disk cannot fill itself."""


def set_aside(root: Path, path: Path) -> Path:
    """Move a file or a table out of the way; returns where it is now.

    Args:
        root: The data directory, on the same file system, so that nothing is copied.
        path: Below ``root/tables``.

    Raises:
        StoreError: It cannot be moved.
    """
    with explained(f"move the damaged {path} aside"):
        place = root / "damaged" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        place.mkdir(parents=True, exist_ok=True)
        name = "-".join(path.relative_to(root / "tables").parts)
        target, number = place / name, 0
        while target.exists():
            number += 1
            target = place / f"{name}.{number}"
        path.replace(target)
        for old in kept(root)[:-COPIES]:
            shutil.rmtree(root / "damaged" / old, ignore_errors=True)
    return target


def kept(root: Path) -> list[str]:
    """Names of the directories below ``damaged``, oldest first; each is the time in UTC."""
    try:
        return sorted(each.name for each in (root / "damaged").iterdir())
    except OSError:
        return []
