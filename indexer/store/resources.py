"""What the storage library takes of the process: heaps, open files, caches; and its freed memory given back.

``import lancedb`` costs 2.4 s of CPU and 130 MB, so a program imports ``indexer.store.store`` once, in a worker
thread, after ``prepare_process``. This module imports none of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import anyio.to_thread

from indexer.store.files_on_disk import tree_bytes

if sys.platform != "win32":
    import resource

_M_ARENA_MAX = -8  # malloc.h of glibc
_OPEN_FILES = 8192
_COMMITS = 25

# Entries of old versions stay until there is no room for new ones, so a cache that is too large fills with them: 5 kB
# for each file written, which is the whole growth of a process that indexes. One that is too small makes every search
# read the search indexes again: twice the time at a million chunks.
_INDEX_CACHE = (128 << 20, 2 << 30)  # least and most, bytes; the library's default is 6 GB
_METADATA_CACHE = (16 << 20, 256 << 20)  # the library's default is 1 GB


def prepare_process() -> None:
    """Change the process settings that must be made before the storage library is imported."""
    _limit_arenas()
    _raise_open_files()
    # The library reads its log level from the environment at import and has no other setting for it; its warnings
    # name build paths and mean nothing to a user.
    os.environ.setdefault("LANCEDB_LOG", "error")  # environment: the one setting the library takes no other way


def cache_sizes(directory: Path) -> tuple[int, int]:
    """Bytes for the cache of search indexes and for that of metadata, for a database of its present size.

    One and a half times the search indexes on disk, since they take more in memory, and a 64th of everything: what
    searches need of metadata is 15 MB at 164,000 chunks. The least is for 170,000 chunks: an index may grow so far
    before it is opened again.
    """
    indexes = sum(map(tree_bytes, directory.glob("*/_indices")))
    return _clamp(_INDEX_CACHE, indexes * 3 // 2), _clamp(_METADATA_CACHE, tree_bytes(directory) // 64)


async def trim_memory_before(commits: int) -> None:
    """Before every 25th commit of a table, give back the memory that the earlier ones have freed.

    The library's allocations fragment the heap; giving back takes 1 to 45 ms of another thread.

    Args:
        commits: How many commits the table has had.
    """
    if commits % _COMMITS == _COMMITS - 1:
        await anyio.to_thread.run_sync(give_back_memory)


def give_back_memory() -> None:
    """Return freed pages to the system: Arrow's, and those of glibc's heaps; after maintenance 77 MB of 490."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _clamp(limits: tuple[int, int], size: int) -> int:
    return min(max(limits[0], size), limits[1])


def _limit_arenas() -> None:
    """Keep glibc to two heap arenas: 600 commits then grow the process by 52 MB instead of 145."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 2)


def _raise_open_files() -> None:
    """Lift the soft limit of open files: macOS starts at 256, a search of a fragmented table needs more."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    library_errors = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < library_errors:
        with contextlib.suppress(ValueError, OSError):  # some systems cap below the limit they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (library_errors, hard))


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
