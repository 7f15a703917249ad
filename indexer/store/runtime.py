"""Loading the storage library, and the process settings that must come before it.

``import lancedb`` costs 2.4 s of CPU and 130 MB, so it happens once, in a worker thread, when a store is opened;
every other module of this room imports it inside functions that only run afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import anyio.to_thread

_M_ARENA_MAX = -8  # malloc.h of glibc
_OPEN_FILES = 8192
_COMMITS = 25


def load() -> None:
    """Tune the process and import the storage library; seconds the first time, nothing afterwards."""
    if "lancedb" in sys.modules:
        return
    _limit_arenas()
    _raise_open_files()
    # The library reads its log level from the environment at import and has no other setting for it; its warnings
    # name build paths and mean nothing to a user.
    os.environ.setdefault("LANCEDB_LOG", "error")  # house: the one setting the library takes no other way
    import lancedb  # noqa: F401, PLC0415
    import pyarrow.compute  # noqa: F401, PLC0415


def give_back_memory() -> None:
    """Return freed pages to the system: Arrow's, and those of glibc's heaps; after maintenance 77 MB of 490."""
    if "pyarrow" in sys.modules:
        import pyarrow  # noqa: PLC0415

        pyarrow.default_memory_pool().release_unused()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


async def keep_small(commits: int) -> None:
    """Before every 25th commit of a table, give back what the ones before it have freed.

    The library's allocations fragment the heap; giving back takes 1 to 45 ms of another thread.
    """
    if commits % _COMMITS == _COMMITS - 1:
        await anyio.to_thread.run_sync(give_back_memory)


def _limit_arenas() -> None:
    """Keep glibc to two heap arenas: 600 commits then grow the process by 52 MB instead of 145."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 2)


def _raise_open_files() -> None:
    """Lift the soft limit of open files: macOS starts at 256, a search of a fragmented table needs more."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems cap below the limit they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
