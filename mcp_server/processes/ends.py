"""When an owner that nobody uses ends. Pure."""

from __future__ import annotations

from indexer.status_types import Status

WORKING = frozenset({"waiting", "scanning", "reading", "embedding"})
"""States of a folder in which indexing goes on by itself. Blocked ones wait for something that no waiting helps."""


def working(status: Status) -> bool:
    """Whether indexing is unfinished and goes on."""
    if status.owner.state in ("uninitialized", "initializing"):
        return True
    return any(folder.state in WORKING for folder in status.folders)


def end_at(*, left_at: float, busy_at: float, work: bool, any_yet: bool, linger: float, idle_exit: float) -> float:
    """Return when the owner ends if nothing changes; the clock is that of the arguments, seconds.

    Args:
        left_at: When the last client left.
        busy_at: When there was last a client or work.
        work: Whether indexing is unfinished.
        any_yet: Whether there ever was a client.
        linger: Seconds unfinished indexing may go on without a client; 0 ends with the last client.
        idle_exit: Seconds without client and work.
    """
    if any_yet and not linger:
        return left_at
    if work and linger:
        return left_at + linger
    return max(left_at, busy_at) + idle_exit
