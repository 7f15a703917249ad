"""``open_store``: everything between a data directory and a ``Store`` that answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread

from indexer.errors import StoreError
from indexer.store import runtime
from indexer.store.connection import connect, prepare
from indexer.store.fault import explained
from indexer.store.lock import WriterLock, free
from indexer.store.opened import Opened
from indexer.store.store import Store

_ROOM = 64 << 10  # bytes that must fit on the disk before writing is tried again


@asynccontextmanager
async def open_store(directory: Path | str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the index in a data directory, make it if there is none, mend it if it is broken.

    The first time in a process this imports the storage library, in a thread, which takes seconds. What was mended
    is in ``Store.damage``.

    Args:
        directory: The data directory; the database is in its ``tables``, what was broken goes to its ``damaged``.
        read_only: Open beside the writer, without its lock; every write is refused.

    Raises:
        StoreBusy: Another process is the writer.
        StoreError: See ``StoreError.code``: ``unsupported`` (no hard links), ``missing`` (nothing to read yet),
            ``newer_version``, ``permission``, ``disk_full``, ``read_only``, ``damaged`` (reading only).
    """
    root = Path(directory)
    await anyio.to_thread.run_sync(runtime.load)
    with ExitStack() as stack:
        lock: WriterLock | None = None
        if not read_only:
            lock = await anyio.to_thread.run_sync(_take, stack, root)
        opened = Opened(await connect(root, read_only=read_only), lock)
        unclean = lock is not None and lock.unclean
        await opened.load(unclean=unclean)
        for table in opened.tables:
            table.wear.litter = unclean
        store = Store(opened)
        await store.upkeep.measure()
        yield store


def writable(directory: Path) -> bool:
    """Whether the index in a data directory could be opened for writing now; changes nothing. For threads."""
    probe = directory / f".room-{os.getpid()}"
    try:
        prepare(directory / "tables")
        probe.write_bytes(bytes(_ROOM))
    except (OSError, StoreError):
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return free(directory / "writer.lock")


def _take(stack: ExitStack, root: Path) -> WriterLock:
    """Take the writer's lock."""
    with explained(f"create the data directory {root}"):
        root.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(WriterLock(root / "writer.lock"))
