"""Which parts of a folder lie on file systems that send no change events: network shares and container mounts."""

from __future__ import annotations

from collections.abc import Iterable

SILENT = frozenset(
    {
        "9p", "afpfs", "afs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "lustre", "macfuse", "nfs", "nfs4",
        "osxfs", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav",
        "fuse.davfs2", "fuse.glusterfs", "fuse.google-drive-ocamlfuse", "fuse.grpcfuse", "fuse.gvfsd-fuse",
        "fuse.onedriver", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
    }
)  # fmt: skip
"""File system types on which a change made elsewhere (the server, the host) raises no event here and no error."""


def mount_table() -> list[tuple[str, str]]:
    """Mount point and file system type of every mount; reads a table, touches no mount."""
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  # 58 ms

    return [(each.mountpoint, each.fstype.lower()) for each in psutil.disk_partitions(all=True)]


def silent_parts(root: str, mounts: Iterable[tuple[str, str]] | None = None) -> tuple[tuple[str, str], ...]:
    """The parts of a folder that cannot be watched, each with its file system type.

    Args:
        root: Absolute, resolved.
        mounts: Mount points and types, None to ask the system.

    Returns:
        The root itself if it lies on such a file system, else mount points below it, else nothing.
    """
    table = list(mount_table() if mounts is None else mounts)
    around = [(point, kind) for point, kind in table if root == point or root.startswith(point.rstrip("/") + "/")]
    # The longest mount point holds the root; of two on the same place the later one is on top.
    holding = max(enumerate(around), key=lambda each: (len(each[1][0]), each[0]), default=None)
    if holding is not None and holding[1][1] in SILENT:
        return ((root, holding[1][1]),)
    below = root.rstrip("/") + "/"
    return tuple((point, kind) for point, kind in table if point.startswith(below) and kind in SILENT)
