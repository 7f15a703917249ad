"""What the database takes on the disk, and whether it is really there: measuring, flushing, room for upkeep."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from indexer.errors import StoreError


def tree_bytes(place: Path) -> int:
    """Size of all files below a directory, bytes; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def sync_files(place: Path, since: float) -> None:
    """Flush to the disk what was written after ``since``.

    The storage library never does, so a power cut takes back whatever the system had not yet written by itself.
    """
    for folder, _, names in os.walk(place):
        for path in (*(Path(folder) / name for name in names), Path(folder)):
            with contextlib.suppress(OSError):  # gone meanwhile, or a directory on Windows
                if path.stat().st_mtime >= since - 1:
                    _flush(path)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_space(place: Path, name: str) -> None:
    """Refuse when compaction would not fit: it needs 1.2 times the table before it frees anything."""
    needed, free = int(1.2 * tree_bytes(place / name)), shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"maintenance of the index is passed over: it needs {needed >> 20} MiB of free disk "
            f"and {free >> 20} MiB are left",
            "disk_full",
        )
