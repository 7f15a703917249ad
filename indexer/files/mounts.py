"""Mounts: which parts of a folder send no change events, and where an index should not be kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

SILENT = frozenset(
    {
        "9p", "afpfs", "afs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "lustre", "macfuse", "nfs", "nfs4",
        "osxfs", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav",
        "fuse.davfs2", "fuse.glusterfs", "fuse.google-drive-ocamlfuse", "fuse.grpcfuse", "fuse.gvfsd-fuse",
        "fuse.onedriver", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
    }
)  # fmt: skip
"""File system types on which a change made elsewhere (the server, the host) raises neither an event nor an error."""


def mount_table() -> list[tuple[str, str]]:
    """Mount point and file system type of every mount; reads the mount table, accesses no mount."""
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  # 58 ms

    return [(each.mountpoint, each.fstype.lower()) for each in psutil.disk_partitions(all=True)]


def silent_parts(root: str, mounts: Iterable[tuple[str, str]] | None = None) -> tuple[tuple[str, str], ...]:
    """The parts of a folder that cannot be watched, each with its file system type.

    Args:
        root: Absolute, resolved.
        mounts: Mount points and types, None to ask the system.

    Returns:
        The root itself if it is on such a file system, else mount points below it, else nothing.
    """
    table = list(mount_table() if mounts is None else mounts)
    around = [(point, kind) for point, kind in table if root == point or root.startswith(point.rstrip("/") + "/")]
    # The longest mount point holds the root; of two on the same path the later one hides the other.
    holding = max(enumerate(around), key=lambda each: (len(each[1][0]), each[0]), default=None)
    if holding is not None and holding[1][1] in SILENT:
        return ((root, holding[1][1]),)
    below = root.rstrip("/") + "/"
    return tuple((point, kind) for point, kind in table if point.startswith(below) and kind in SILENT)


# Location of the index ----------------------------------------------------------------------------------------------
# An index should be neither on a network disk nor in a folder that some program synchronises.

_SYNCED = (
    "dropbox", "onedrive", "google drive", "googledrive", "my drive", "icloud drive", "icloud~", "com~apple~clouddocs",
    "mobile documents", "cloudstorage", "nextcloud", "owncloud", "pcloud", "pclouddrive", "megasync", "box sync",
    "syncthing", "yandex.disk", "seafile", "tresorit",
)  # fmt: skip


def synchronised(directory: Path) -> str:
    """The part of a path that is named after a synchronising program or has its marker file; empty if none."""
    for each in (directory, *directory.parents):
        name = each.name.lower()
        if any(name == word or name.startswith((f"{word} ", f"{word}-", f"{word}(")) for word in _SYNCED):
            return each.name
        if name.startswith("icloud~") or (each / ".stfolder").exists() or (each / ".dropbox").is_file():
            return each.name or str(each)
    return ""


def warnings(directory: Path, mounts: Sequence[tuple[str, str]] | None = None) -> tuple[str, ...]:
    """Reasons not to keep an index here, one sentence each with the remedy.

    Args:
        directory: Absolute.
        mounts: Mount points and their file system types; None asks the system.
    """
    found = []
    try:
        remote = silent_parts(os.path.realpath(directory), mount_table() if mounts is None else mounts)
    except (ImportError, OSError):  # the doctor reports a missing psutil
        remote = ()
    move = "choose a data directory on a local disk, with --data-dir"
    if remote:
        found.append(f"{remote[0][0]} is on a {remote[0][1]} file system, without the locks of a local disk; {move}")
    synced = synchronised(directory)
    if synced:
        found.append(
            f"{directory} is in a synchronised folder ({synced}): copies made while it is written are damaged; {move}"
        )
    return tuple(found)
