"""A notifier wakes every task that waits for a change, so that nothing polls."""

from __future__ import annotations

import anyio


class Notifier:
    """An event that can happen again: ``notify`` wakes all tasks that are in ``wait`` at that moment.

    To miss no change, look at the state and then wait, on one event loop and without an await between the two. Where
    there has to be one, keep ``notifications`` first and wait with ``after``.

    Attributes:
        notifications: How often it has notified.
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
        """Wait for the next notification."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    async def after(self, notifications: int) -> None:
        """Wait until it has notified more than ``notifications`` times."""
        while self.notifications <= notifications:
            await self.wait()
