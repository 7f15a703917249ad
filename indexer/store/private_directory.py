"""The data directory belongs to one user: it is closed to all others, or not written to.

It holds the text of documents that perhaps only their owner may read. Our directories below it are closed too, where
it was open: whoever had one of them open would still reach what is in it. A directory that holds files of others stays
as it is, for those may be meant to be reached: the user has named a home or a shared directory.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from pathlib import Path

from indexer.errors import StoreError

log = logging.getLogger(__name__)

OUR_DIRECTORIES = ("index", "logs", "models", "record")
OUR_FILES = ("folders.", "http-token", "access.", ".doctor-")
"""How the names of our files begin."""


def make_private(data_dir: Path) -> str:
    """Create the data directory for this user alone (0700), or close an existing one to others.

    Args:
        data_dir: Absolute; a link to a directory counts as that directory.

    Returns:
        A sentence about what was changed, empty when nothing was.

    Raises:
        StoreError: It belongs to another user, or stays open to others; code ``permission``. It cannot be made.
    """
    try:
        make_directory(data_dir)
        found = data_dir.stat()
    except OSError as error:
        code = "read_only" if error.errno == errno.EROFS else "permission"
        raise StoreError(f"{data_dir}: cannot be made ({error.strerror}); choose another --data-dir", code) from error
    if sys.platform == "win32":
        return ""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise StoreError(
            f"{data_dir} belongs to another user (number {found.st_uid}), who could read your documents in it; "
            "choose a directory of your own with --data-dir",
            "permission",
        )
    if not mode & 0o077:
        return ""
    closed = [data_dir / "index"] if holds_other_files(data_dir) else [data_dir]
    try:
        (data_dir / "index").mkdir(exist_ok=True, mode=0o700)
        before = [each for each in closed if each.stat().st_mode & 0o077]
        _close_to_others(data_dir, closed)
    except OSError as error:
        if error.errno == errno.EROFS:  # nothing is written there either
            return ""
        raise _stays_open(data_dir, mode, str(error.strerror)) from error
    if any(each.stat().st_mode & 0o077 for each in closed):  # a file system that has no modes
        raise _stays_open(data_dir, mode, "its file system keeps it so")
    if not before:
        return ""
    said = f"{before[0]} was open to other users of this machine (the data directory had mode {mode:04o})"
    said += "; it is closed to them now"
    log.warning("%s", said)
    return said


def make_directory(directory: Path) -> None:
    """Create a directory and those above it that are missing, each for this user alone.

    ``Path.mkdir`` gives its mode to the last one only: a deleted data directory would come back open to others.

    Raises:
        OSError: One cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)  # raises where it is a file


def holds_other_files(data_dir: Path) -> bool:
    """Whether anything in the data directory is not ours, so that it may be meant for others."""
    with os.scandir(data_dir) as entries:
        names = [each.name for each in entries]
    return not all(name in OUR_DIRECTORIES or name.startswith(OUR_FILES) for name in names)


def _stays_open(data_dir: Path, mode: int, why: str) -> StoreError:
    return StoreError(
        f"{data_dir} is open to other users of this machine (mode {mode:04o}) and cannot be closed to them ({why}); "
        "choose a directory on a local disk of your own with --data-dir",
        "permission",
    )


def _close_to_others(data_dir: Path, closed: list[Path]) -> None:
    """Take every right of others away from directories, and from all of ours; links are not followed."""
    for each in closed:
        if each.stat().st_mode & 0o077:
            os.chmod(each, 0o700)
    for name in OUR_DIRECTORIES:
        if not (data_dir / name).is_dir() or (data_dir / name).is_symlink():
            continue
        for _, _, _, directory in os.fwalk(data_dir / name):
            mode = os.fstat(directory).st_mode
            if mode & 0o077:
                os.fchmod(directory, stat.S_IMODE(mode) & 0o700)
