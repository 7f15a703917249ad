"""Why a folder is not watched, and what to do, in words."""

from __future__ import annotations

LIMIT = (
    "the system's limit of watches is reached, so that not every directory is watched",
    "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl, "
    "or leave big directories out with exclude, and restart",
)
GONE = ("the folder is not there", "mount its disk or restore it; what was indexed is kept")
UNDECODABLE = (
    "files whose names are not valid UTF-8 keep changing in it, and each such change ends the watch",
    "rename them, or leave their directory out by moving it elsewhere; until then changes are found minutes later",
)
_NOTHING = "nothing to do: it is compared with the index now and then instead"


def unreadable(error: OSError) -> tuple[str, str]:
    """Reason and remedy when a directory refuses to be watched."""
    return (
        f"a directory cannot be read, so that not everything is watched: {error}",
        "allow this user to read it, or leave it out with exclude",
    )


def failure(error: Exception) -> tuple[str, str]:
    """Reason and remedy when the watcher fails."""
    return LIMIT if is_limit(error) else (f"it cannot be watched: {error}", _NOTHING)


def silence(parts: tuple[tuple[str, str], ...], root: str) -> tuple[str, str]:
    """Reason and remedy when parts of a root (path, file system type) send no events."""
    if parts[0][0] == root:
        return f"it is on a {parts[0][1]} file system, which reports no changes", _NOTHING
    names = ", ".join(f"{part} ({kind})" for part, kind in parts)
    return f"parts of it are on file systems that report no changes: {names}", _NOTHING


def is_limit(error: Exception) -> bool:
    """Whether watches (ENOSPC) or watchers (EMFILE) have run out, as watchfiles words it."""
    return "limit reached" in str(error) or "Too many open files" in str(error)
