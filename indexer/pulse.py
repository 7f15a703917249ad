"""A broadcast: wakes everyone who waits, as often as it beats. The reason nothing here polls."""

from __future__ import annotations

import anyio


class Pulse:
    """An event that can happen again. A waiter that comes after a beat waits for the next one.

    To lose nothing, look at the state, and only then wait: both on one event loop, without an await between.
    """

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def beat(self) -> None:
        """Wake every task that is waiting now."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait for the next beat."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
