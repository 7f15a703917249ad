"""Places as they are now: each file is looked at when it is answered for, whatever the index remembers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from indexer.answer import Query
from indexer.folder import Folders
from indexer.fusion import Fused
from indexer.manifest import Manifest
from indexer.passages import Seen
from indexer.types import FileRow, StoredChunk


def fresh(
    ranking: Sequence[Fused],
    query: Query,
    manifest: Manifest,
    folders: Folders,
    look_again: Callable[[str, str], None],
    turns: int,
) -> tuple[list[Seen], bool]:
    """Cut the wanted page out of a ranking: files that are gone are dropped, changed ones are marked.

    Looks at one file a hit (``stat``): call it from a worker thread.

    Args:
        ranking: Best first.
        query: Says which page.
        manifest: What the index knows of the files.
        folders: The folders; a folder that cannot be reached keeps its hits.
        look_again: Called with folder and path of every file that is gone or changed.
        turns: Those of the manifest before the index was asked: a file whose row is newer counts as changed, since
            its hit may be from before.

    Returns:
        The page, and whether there are more after them.
    """
    page: list[Seen] = []
    passed = 0
    for found in ranking:
        chunk = found.chunk
        row = manifest.row(chunk.folder, chunk.path)
        seen = _seen(chunk, row, folders)
        if seen and manifest.changed_since(turns, chunk.path):
            seen = (seen[0], True)
        if seen is None or seen[1]:
            look_again(chunk.folder, chunk.path)
        if seen is None:
            continue
        passed += 1
        if passed <= query.offset:
            continue
        if len(page) == query.top_k:
            return page, True
        page.append(Seen(found, *seen))
    return page, False


def _seen(chunk: StoredChunk, row: FileRow | None, folders: Folders) -> tuple[float, bool] | None:
    """Modification time and whether the file differs from what was indexed; None when it is gone."""
    try:
        stat = os.stat(chunk.path, follow_symlinks=False)
    except OSError:
        folder = folders.get(chunk.folder)
        if folder is not None and folder.available and os.path.isdir(folder.path):
            return None
        return (row.mtime_ns / 1e9 if row else 0.0), True  # the whole folder is away: unmounted, not deleted
    if not stat.st_size:
        return None  # emptied: nothing is left to cite
    return stat.st_mtime, row is None or (row.size, row.mtime_ns) != (stat.st_size, stat.st_mtime_ns)
