"""Look at dirty paths: what the disk has there now. Blocking: for worker threads."""

from __future__ import annotations

import os
import time

from indexer.errors import FolderError
from indexer.files.walk import Skipped, stat_file, walk
from indexer.folder import LiveFolder
from indexer.types import File, FileRow


def look(folder: LiveFolder, targets: tuple[str, ...], had_files: bool) -> tuple[list[File], list[Skipped]]:
    """Walk the targets.

    Raises:
        FolderError: The folder itself cannot be reached, or has nothing in it any more.
    """
    files: dict[str, File] = {}
    refused: dict[str, Skipped] = {}
    for target in targets:
        if target == folder.path or os.path.isdir(target):
            entries = walk(folder.path, folder.ignore, target)
        else:
            entry = stat_file(target, folder.path, folder.ignore)
            entries = iter(() if entry is None else (entry,))
        for entry in entries:
            if isinstance(entry, File):
                files[entry.path] = entry
            else:
                refused[entry.path] = entry
    _check_there(folder.path, had_files)
    return list(files.values()), list(refused.values())


def refusal(folder: LiveFolder, skipped: Skipped, known: FileRow | None) -> FileRow | None:
    """The row of a file the walk refused; None when the index says so already."""
    if known is not None and (known.outcome, known.reason) == ("skipped", skipped.reason):
        return None
    return FileRow(skipped.path, folder.path, 0, 0, "", "", "", "skipped", skipped.reason, 0, 0, time.time())


def _check_there(root: str, had_files: bool) -> None:
    """Refuse to take files for deleted when the disk they are on may only not be mounted: an empty root is no news.

    Raises:
        FolderError: The root is gone or empty.
    """
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise FolderError(f"{root} cannot be reached: {error.strerror}") from error
    if empty and had_files:
        raise FolderError(f"{root} is empty; if its disk is not mounted, mount it, otherwise remove the folder")
