"""Whether the system allows as many file watches as the folders have directories (Linux)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mcp_server import timing
from mcp_server.doctor.finding import Finding

INOTIFY = Path("/proc/sys/fs/inotify")
FEW_INSTANCES = 16


def limits(place: Path = INOTIFY) -> tuple[int, int] | None:
    """``max_user_watches`` and ``max_user_instances``; None where there are none."""
    try:
        watches = int((place / "max_user_watches").read_text(encoding="ascii"))
        return watches, int((place / "max_user_instances").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def directories(roots: Sequence[str], enough: int, clock: Callable[[], float] = time.monotonic) -> tuple[int, bool]:
    """Count directories below the roots, links not followed; stops at ``enough`` or when patience ends.

    Returns:
        How many, and whether all were counted.
    """
    until, count = clock() + timing.CHECK_DIRECTORIES_S, 0
    for root in roots:
        for _, _, _ in os.walk(root):
            count += 1
            if count >= enough or clock() > until:
                return count, False
    return count, True


def watches(
    found: tuple[int, int] | None,
    roots: Sequence[str],
    *,
    watch: bool,
    count: Callable[[Sequence[str], int], tuple[int, bool]] = directories,
) -> Iterator[Finding]:
    """Compare the limits with the folders.

    Args:
        found: Watches and instances the system allows one user, None where it has no such limits.
        roots: The folders.
        watch: Whether folders are watched at all.
        count: Counts directories up to a number.
    """
    name = "file watches"
    if not watch:
        yield Finding(name, "ok", "folders are not watched (watch = false in [index])")
        return
    if found is None:
        limit = "the limits cannot be read" if sys.platform == "linux" else "this system has no limit of its own"
        yield Finding(name, "ok", limit)
        return
    allowed, instances = found
    counted, whole = count(roots, allowed)
    number = f"{counted:,}" if whole else f"at least {counted:,}"
    detail = f"{number} directories to watch, {allowed:,} watches allowed"
    if counted >= allowed:
        remedy = f"run: sudo sysctl fs.inotify.max_user_watches={max(2 * counted, 524_288)}"
        yield Finding(name, "failure", f"{detail}: the rest is compared at each rescan only", remedy)
    elif counted > allowed // 2:
        remedy = "other programs share the limit; raise fs.inotify.max_user_watches with sysctl"
        yield Finding(name, "warning", detail, remedy)
    else:
        yield Finding(name, "ok", detail)
    if instances < max(FEW_INSTANCES, 2 * len(roots)):
        remedy = "run: sudo sysctl fs.inotify.max_user_instances=512"
        yield Finding("file watchers", "warning", f"{instances} allowed, one is needed for each folder", remedy)
