"""Memory that the storage library has freed goes back to the system while there is writing, too."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from indexer.store.resources import trim_memory_before

BLOCKS, SIZE = 20_000, 2048


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's heap")
async def test_what_was_freed_below_memory_in_use_goes_back_before_every_25th_commit() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(SIZE) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, SIZE)
    for block in blocks[:-1]:  # the last one lies on top of the heap and keeps it from shrinking by itself
        libc.free(block)
    held = resident()
    await trim_memory_before(23)
    assert resident() > held - (10 << 20)
    await trim_memory_before(24)
    assert resident() < held - (20 << 20)
    libc.free(blocks[-1])
