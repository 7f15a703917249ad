"""Which folders may be indexed at all."""

# Paths are str, perhaps with surrogates or ~nobody, which os.path takes without raising:
# ruff: noqa: S108

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from indexer.errors import FolderError

SYSTEM_FOLDERS = frozenset(
    {
        "/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt", "/opt", "/root",
        "/run", "/sbin", "/snap", "/srv", "/tmp", "/usr", "/usr/lib", "/usr/local", "/usr/share", "/var",
        "/Applications", "/Library", "/System", "/Users", "/Volumes", "/private", "/private/etc", "/private/tmp",
        "/private/var",
    }
)  # fmt: skip
"""Too broad as a whole; folders below them are fine."""

NOT_FILES = ("/dev", "/proc", "/sys")
"""Trees of the kernel, never indexed, nor anything below them."""


def resolved(path: str) -> str:
    """Absolute, ``~`` expanded, links resolved as far as the path exists.

    Raises:
        FolderError: It is empty or has a NUL.
    """
    if "\0" in path or not path:
        raise FolderError(f"{path!r} is not a path; name a folder")
    return os.path.realpath(os.path.expanduser(path))


def check_folder(
    path: str, *, data_dir: Path, known: Iterable[str] = (), allow_broad: bool = False, must_exist: bool = True
) -> str:
    """See that a folder may be indexed.

    Args:
        path: Any spelling of it.
        data_dir: The data directory, which must be neither in it nor around it.
        known: Resolved paths of the folders already known; the same one again is fine.
        allow_broad: Take ``/``, a home directory or a system folder as a whole.
        must_exist: Whether a missing folder is an error.

    Returns:
        The resolved path; that of ``known`` where both are the same directory.

    Raises:
        FolderError: It breaks a rule; the message says which and what to do.
    """
    found = resolved(path)
    shown = printable(found)
    if must_exist or os.path.lexists(found):
        _check_readable(found, shown)
    if any(found == each or found.startswith(each + "/") for each in NOT_FILES):
        raise FolderError(f"{shown} belongs to the kernel and holds no documents; name another folder")
    data = resolved(str(data_dir))
    if found == data or _within(found, data):
        raise FolderError(f"{shown} is in the data directory {data}, which holds the index; name another folder")
    if not allow_broad:
        _check_broad(found, shown)
    if _within(data, found) and not allow_broad:
        raise FolderError(f"{shown} contains the data directory {data}; move that elsewhere with --data-dir")
    return _check_overlap(found, shown, list(known))


def overlapping(path: str, known: Iterable[str]) -> str | None:
    """The known folder that a resolved path lies in or contains, other than itself; None if there is none."""
    for other in known:
        if path != other and (_within(path, other) or _within(other, path)):
            return other
    return None


def printable(path: str) -> str:
    """A path fit for a message: undecodable bytes and control characters escaped."""
    shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _check_readable(path: str, shown: str) -> None:
    try:
        with os.scandir(path):
            pass
    except FileNotFoundError:
        raise FolderError(f"{shown} does not exist; check the spelling, or that its disk is mounted") from None
    except NotADirectoryError:
        raise FolderError(f"{shown} is a file; name the folder it is in: {os.path.dirname(shown)}") from None
    except OSError as error:
        raise FolderError(f"{shown} cannot be read ({error.strerror}); allow this user to read it") from error


def _check_broad(path: str, shown: str) -> None:
    home = resolved("~")
    if path == home:
        what = "your whole home directory"
    elif path == "/" or _within(home, path):
        what = "a folder that contains your whole home directory"
    elif path in SYSTEM_FOLDERS:
        what = "a system folder"
    else:
        return
    raise FolderError(f"{shown} is {what}; name a folder below it, or ask for it explicitly with --allow-broad")


def _check_overlap(path: str, shown: str, known: list[str]) -> str:
    if path in known:
        return path
    for other in known:
        if _same(path, other):  # another spelling on a case-insensitive file system, or a bind mount
            return other
    for other in known:
        if _within(path, other):
            raise FolderError(f"{shown} is inside {printable(other)}, which is already indexed; search that one")
        if _within(other, path):
            raise FolderError(
                f"{shown} contains {printable(other)}, which is already indexed; remove that one first: "
                f"folder-mcp folders remove {printable(other)}"
            )
    return path


def _within(path: str, folder: str) -> bool:
    """Whether ``path`` lies below ``folder``, by name or, through mounts and letter case, by identity."""
    if path.startswith(folder.rstrip("/") + "/") and path != folder:
        return True
    try:
        outer = os.stat(folder)
    except OSError:
        return False
    parent = os.path.dirname(path)
    while parent not in ("", "/"):
        try:
            if os.path.samestat(os.stat(parent), outer):
                return True
        except OSError:
            pass
        parent = os.path.dirname(parent)
    return False


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
