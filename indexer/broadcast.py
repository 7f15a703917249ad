"""A broadcast: wakes everyone who waits, as often as it beats. The reason nothing here polls."""

from __future__ import annotations

import anyio


class Notifier:
    """An event that can happen again. A waiter that comes after a beat waits for the next one.

    To lose nothing, look at the state, and only then wait: both on one event loop, without an await between. Where
    there has to be one, note ``notifications`` first and wait with ``after``.

    Attributes:
        beats: How often it has beaten.
    """

    def __init__(self) -> None:
        self.notifications = 0
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake every task that is waiting now."""
        self.notifications += 1
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait for the next beat."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    async def after(self, notifications: int) -> None:
        """Wait until it has beaten more than ``notifications`` times."""
        while self.notifications <= notifications:
            await self.wait()
