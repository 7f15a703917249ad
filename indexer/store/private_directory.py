"""The data directory belongs to one user: it is closed to all others, or not written to.

It holds the text of documents that perhaps only their owner may read. Directories below it are closed too, where it
was open: whoever had one of them open would still reach what is in it.
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
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    try:
        _close_to_others(data_dir)
    except OSError as error:
        if error.errno == errno.EROFS:  # nothing is written there either
            return ""
        raise _stays_open(data_dir, mode, str(error.strerror)) from error
    if data_dir.stat().st_mode & 0o077:  # a file system that has no modes
        raise _stays_open(data_dir, mode, "its file system keeps it so")
    said = f"{data_dir} was open to other users of this machine (mode {mode:04o}); only this user can enter it now"
    log.warning("%s", said)
    return said


def _stays_open(data_dir: Path, mode: int, why: str) -> StoreError:
    return StoreError(
        f"{data_dir} is open to other users of this machine (mode {mode:04o}) and cannot be closed to them ({why}); "
        "choose a directory on a local disk of your own with --data-dir",
        "permission",
    )


def _close_to_others(data_dir: Path) -> None:
    """Take every right of others away from the directory and all below it; links are not followed."""
    os.chmod(data_dir, 0o700)
    for _, _, _, directory in os.fwalk(data_dir, onerror=None):
        mode = os.fstat(directory).st_mode
        if mode & 0o077:
            os.fchmod(directory, stat.S_IMODE(mode) & 0o700)
