"""Requests of pages being answered, and the owner's word that it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class Farewell:
    """That the owner ends, and why; pages are told."""

    why: str = ""
    came: anyio.Event = field(default_factory=anyio.Event)


class Visits:
    """Requests being answered."""

    def __init__(self) -> None:
        self._open = 0
        self._changed = anyio.Event()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count one for as long as it lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    async def none_for(self, seconds: float) -> None:
        """Wait until nobody has asked for anything for so long."""
        while True:
            with anyio.move_on_after(None if self._open else seconds) as quiet:
                await self._changed.wait()
            if quiet.cancelled_caught:
                return

    def _count(self, step: int) -> None:
        self._open += step
        event, self._changed = self._changed, anyio.Event()
        event.set()
