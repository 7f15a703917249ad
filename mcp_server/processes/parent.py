"""The relay's ends beside the end of its client: its parent is gone, or a signal came.

A pipe that some other process also holds never says that the client is gone; the parent's death does.

Standard library only. Not by PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and clients start
servers from threads of pools.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process now; a relay has nothing to finish."""
    os._exit(code)


def leave_on_signals() -> None:
    """End at the first signal: quietly for SIGTERM, with its number for the others."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda got, _: leave(0 if got == signal.SIGTERM else 128 + got))


def leave_with_parent(parent: int) -> NoReturn:
    """Wait for the parent's end, then end. Call it in a thread."""
    wait_for_end(parent)
    leave(0)


def note(text: str) -> None:
    """Say something on stderr, where clients keep their logs."""
    try:
        sys.stderr.write(f"folder-mcp: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # started without stderr


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
