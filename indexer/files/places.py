"""What is wrong with a place for data: a network disk, or a folder that some program synchronises."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from indexer.files.mounts import mount_table, silent_parts

_SYNCED = (
    "dropbox", "onedrive", "google drive", "googledrive", "my drive", "icloud drive", "icloud~", "com~apple~clouddocs",
    "mobile documents", "cloudstorage", "nextcloud", "owncloud", "pcloud", "pclouddrive", "megasync", "box sync",
    "syncthing", "yandex.disk", "seafile", "tresorit",
)  # fmt: skip


def synchronised(place: Path) -> str:
    """The part of a path that names a synchronising program, or holds its mark; empty when none does."""
    for each in (place, *place.parents):
        name = each.name.lower()
        if any(name == word or name.startswith((f"{word} ", f"{word}-", f"{word}(")) for word in _SYNCED):
            return each.name
        if name.startswith("icloud~") or (each / ".stfolder").exists() or (each / ".dropbox").is_file():
            return each.name or str(each)
    return ""


def warnings(place: Path, mounts: Sequence[tuple[str, str]] | None = None) -> tuple[str, ...]:
    """What speaks against keeping an index here, one sentence each with the remedy.

    Args:
        place: Absolute.
        mounts: Mount points and their file system types; None asks the system.
    """
    found = []
    try:
        remote = silent_parts(os.path.realpath(place), mount_table() if mounts is None else mounts)
    except (ImportError, OSError):  # the doctor says that psutil is missing
        remote = ()
    move = "choose a data directory on a local disk, with --data-dir"
    if remote:
        found.append(f"{remote[0][0]} is on a {remote[0][1]} file system, without the locks of a local disk; {move}")
    synced = synchronised(place)
    if synced:
        found.append(
            f"{place} is in a synchronised folder ({synced}): copies made while it is written are damaged; {move}"
        )
    return tuple(found)
