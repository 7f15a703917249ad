"""The turn in which writers take the tables, and how long maintenance may keep them waiting for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import anyio

from indexer import timing


class Turn:
    """A lock, first come first served; who holds it and can be broken off hears that somebody is waiting.

    Attributes:
        longest: Seconds for which it was held at the longest.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._lock = anyio.Lock()
        self._waiting = 0
        self._wanted = anyio.Event()
        self._since = 0.0

    async def __aenter__(self) -> None:
        self._waiting += 1
        self._wanted.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted = anyio.Event()
        self._since = time.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.longest = max(self.longest, time.monotonic() - self._since)
        self._lock.release()

    @asynccontextmanager
    async def yielding(self) -> AsyncIterator[anyio.CancelScope]:
        """A turn that ends early once a writer has waited for ``WRITER_WAIT_S``; the scope says whether it did."""
        async with self, anyio.create_task_group() as tasks:
            tasks.start_soon(self._break_off, tasks.cancel_scope)
            yield tasks.cancel_scope
            tasks.cancel_scope.cancel()

    async def _break_off(self, scope: anyio.CancelScope) -> None:
        while True:
            await self._wanted.wait()
            await anyio.sleep(timing.WRITER_WAIT_S)
            if self._waiting:
                scope.cancel()
                return
