"""Hits as they are now: each file is looked at when it is answered for, whatever the index remembers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from indexer.answer import Hit, Query
from indexer.folder import Folders
from indexer.fusion import Fused
from indexer.manifest import Manifest
from indexer.snippet import snippet
from indexer.types import FileRow, StoredChunk

SNIPPET_CHARS = 700
"""About a screenful: enough to judge a hit; eight of them fit the size limits of every client."""


def fresh_hits(
    ranking: Sequence[Fused],
    query: Query,
    terms: Sequence[str],
    manifest: Manifest,
    folders: Folders,
    look_again: Callable[[str, str], None],
) -> tuple[list[Hit], bool]:
    """Cut the wanted page out of a ranking: files that are gone are dropped, changed ones are marked.

    Looks at one file a hit (``stat``): call it from a worker thread.

    Args:
        ranking: Best first.
        query: Says which page.
        terms: Tokens of the query, to cut snippets around.
        manifest: What the index knows of the files.
        folders: The folders; a folder that cannot be reached keeps its hits.
        look_again: Called with folder and path of every file that is gone or changed.

    Returns:
        The hits, and whether there are more after them.
    """
    hits: list[Hit] = []
    passed = 0
    for found in ranking:
        chunk = found.chunk
        row = manifest.row(chunk.folder, chunk.path)
        seen = _seen(chunk, row, folders)
        if seen is None or seen[1]:
            look_again(chunk.folder, chunk.path)
        if seen is None:
            continue
        passed += 1
        if passed <= query.offset:
            continue
        if len(hits) == query.top_k:
            return hits, True
        hits.append(
            Hit(
                path=chunk.path,
                folder=chunk.folder,
                locator=chunk.locator,
                heading=chunk.heading,
                snippet=snippet(chunk.text, terms, SNIPPET_CHARS),
                score=found.score,
                matched=found.matched,
                modified=seen[0],
                stale=seen[1],
                folded=found.folded,
            )
        )
    return hits, False


def _seen(chunk: StoredChunk, row: FileRow | None, folders: Folders) -> tuple[float, bool] | None:
    """Modification time and whether the file differs from what was indexed; None when it is gone."""
    try:
        stat = os.stat(chunk.path, follow_symlinks=False)
    except OSError:
        folder = folders.get(chunk.folder)
        if folder is not None and folder.available and os.path.isdir(folder.path):
            return None
        return (row.mtime_ns / 1e9 if row else 0.0), True  # the whole folder is away: unmounted, not deleted
    return stat.st_mtime, row is None or (row.size, row.mtime_ns) != (stat.st_size, stat.st_mtime_ns)
