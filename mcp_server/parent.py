"""Noticing that the parent process is gone: a pipe that some other process also holds never says so.

Standard library only. Not by PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and clients start
servers from threads of pools.
"""

from __future__ import annotations

import os
import select
import sys
import time


def wait_for_end(parent: int) -> None:
    """Return when the parent is gone. Blocks; call it in a thread.

    Args:
        parent: Its process id, as ``os.getppid`` gave it at the start.
    """
    if sys.platform == "linux" and _watched_by_pidfd(parent):
        return
    if sys.platform == "darwin" and _watched_by_kqueue(parent):
        return
    while os.getppid() == parent:  # nothing else tells: one system call a second
        time.sleep(1)


def _watched_by_pidfd(parent: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fd = os.pidfd_open(parent)
    except ProcessLookupError:
        return True
    except OSError:  # a kernel before 5.3, or a sandbox without the call
        return False
    try:
        if os.getppid() == parent:  # else the number was somebody else's already
            select.select([fd], [], [])
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _watched_by_kqueue(parent: int) -> bool:
    if sys.platform != "darwin":
        return False
    queue = select.kqueue()
    event = select.kevent(parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    try:
        if os.getppid() == parent:
            queue.control([event], 1)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    finally:
        queue.close()
    return True
