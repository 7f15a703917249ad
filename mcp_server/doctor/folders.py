"""The indexed folders: there, readable, and on a disk that reports changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from indexer.files.mounts import silent_parts
from mcp_server.doctor.finding import Finding


def folders(
    known: Sequence[str], refused: Sequence[str], mounts: Sequence[tuple[str, str]] | None
) -> Iterator[Finding]:
    """Look at each folder.

    Args:
        known: Roots, absolute and resolved.
        refused: Sentences about folders that cannot be indexed.
        mounts: Mount points and their file system types, None when they cannot be told.
    """
    for sentence in refused:
        yield Finding("folder", "failure", sentence, "correct it in the configuration, or remove the folder")
    if not known and not refused:
        yield Finding("folders", "warning", "no folder is indexed", "run: folder-mcp folders add FOLDER")
    for root in known:
        yield _folder(root, mounts)


def _folder(root: str, mounts: Sequence[tuple[str, str]] | None) -> Finding:
    name = f"folder {root}"
    try:
        with os.scandir(root) as listing:
            next(listing, None)
    except OSError as error:
        detail = f"cannot be reached ({error.strerror}); what was indexed stays searchable"
        return Finding(name, "failure", detail, "mount or restore it, or run: folder-mcp folders remove FOLDER")
    silent = silent_parts(root, mounts) if mounts is not None else ()
    if silent:
        where = "it is" if silent[0][0] == root else f"{silent[0][0]} is"
        detail = f"{where} on a {silent[0][1]} file system, which reports no changes: they are found at each rescan"
        return Finding(name, "warning", detail, "nothing, or lower rescan_minutes in [index]")
    return Finding(name, "ok", "can be read")
