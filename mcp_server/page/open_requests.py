"""How many requests of pages are open, and the notice that the owner ends. Imports no web server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from indexer.broadcast import Notifier


@dataclass(slots=True)
class ShutdownNotice:
    """Whether the owner ends, and why; pages are told.

    Attributes:
        why: The reason, for people.
        event: Set when the owner ends.
    """

    why: str = ""
    event: anyio.Event = field(default_factory=anyio.Event)


class OpenRequests:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self._open = 0
        self._notifier = Notifier()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count one request for as long as it lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until there was no request for so many seconds."""
        while True:
            with anyio.move_on_after(None if self._open else seconds) as idle:
                await self._notifier.wait()
            if idle.cancelled_caught:
                return

    def _count(self, step: int) -> None:
        self._open += step
        self._notifier.notify()
