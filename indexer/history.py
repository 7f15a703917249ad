"""The last hour, for the page: the slot's states, the searches, what was indexed; and snapshots for those who watch.

Kept in bounded memory. Nothing is decided by it, nothing of it is written to a disk, and no query's text is in it.
Times are seconds since the epoch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import anyio

from indexer.broadcast import Notifier
from indexer.slot.slot import ModelSlot, Transition
from indexer.slot.slot_types import SlotState
from indexer.status_types import Status, Work, WorkCounters

KEPT_S = 3600.0
"""How far back the history goes, in seconds."""
MINUTE = 60.0
CHANGES = 600
"""Changes of the slot's state kept at most; a load, a use and an unload make four."""
SEARCHES = 600
"""Searches kept at most."""


@dataclass(frozen=True, slots=True)
class SlotChange:
    """A change of the slot's state.

    Attributes:
        model: Name of the model that is loaded, being loaded or unloaded; empty when there is none.
    """

    at: float
    state: SlotState
    model: str


@dataclass(frozen=True, slots=True)
class AnsweredSearch:
    """A search that was answered.

    Attributes:
        at: When the answer was ready.
        elapsed_ms: Time taken, milliseconds.
        semantic: What semantic search did: ``served``, ``partial``, ``unavailable``, ``off``.
    """

    at: float
    elapsed_ms: float
    semantic: str


@dataclass(frozen=True, slots=True)
class Minute:
    """What was indexed in one minute of the clock.

    Attributes:
        at: Its beginning.
        read: Files read.
        written: Chunks that keyword search finds since then.
        embedded: Chunks that were embedded.
    """

    at: float
    read: int = 0
    written: int = 0
    embedded: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """The last hour, oldest first.

    Attributes:
        at: Now.
        since: Start of the period: an hour ago, or when the process started.
        changes: The slot's states. The first one may be older than ``since``: it is the state at that time.
        minutes: Only those in which something was indexed.
    """

    at: float
    since: float
    changes: tuple[SlotChange, ...] = ()
    searches: tuple[AnsweredSearch, ...] = ()
    minutes: tuple[Minute, ...] = ()


class HistoryRecorder:
    """Keeps the history of the last hour. For one event loop, without a lock; the caller gives the time.

    Attributes:
        searches: The last searches; the engine appends each one.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._changes: deque[SlotChange] = deque(maxlen=CHANGES)
        self.searches: deque[AnsweredSearch] = deque(maxlen=SEARCHES)
        self._minutes: deque[Minute] = deque(maxlen=int(KEPT_S / MINUTE) + 1)
        self._epoch = -1
        self._work = Work()

    def record_slot_status(self, slot: Transition) -> None:
        """Record the slot's state, if it has changed."""
        if slot.epoch == self._epoch:
            return
        self._epoch = slot.epoch
        self._changes.append(SlotChange(slot.since, slot.state, slot.model))

    def record_counters(self, now: float, work: Work) -> None:
        """Record the work done since the last call, in the present minute."""
        before, self._work = self._work, work
        read = work.files_read - before.files_read
        written = work.chunks_written - before.chunks_written
        embedded = work.chunks_embedded - before.chunks_embedded
        if not (read or written or embedded):
            return
        start = now - now % MINUTE
        if not self._minutes or self._minutes[-1].at != start:
            self._minutes.append(Minute(start))
        last = self._minutes[-1]
        self._minutes[-1] = replace(
            last, read=last.read + read, written=last.written + written, embedded=last.embedded + embedded
        )

    def history(self, now: float, after: float = 0.0) -> History:
        """The last hour, or what of it came after a time; the minute of that time is included as a whole."""
        start = max(self._started, now - KEPT_S)
        changes = _changes_since(tuple(self._changes), start)
        return History(
            now,
            start,
            tuple(each for each in changes if each.at > after),
            tuple(each for each in self.searches if each.at >= start and each.at > after),
            tuple(each for each in self._minutes if each.at + MINUTE > max(start, after)),
        )


def _changes_since(changes: tuple[SlotChange, ...], start: float) -> tuple[SlotChange, ...]:
    """The changes from a time on, and the last one before it, which tells the state at that time."""
    before = [change for change in changes if change.at <= start]
    return (*before[-1:], *(change for change in changes if change.at > start))


# Recording and watching ---------------------------------------------------------------------------------------------

HEARTBEAT = 15.0
"""Seconds after which a snapshot is yielded although nothing was notified: memory and ages change by themselves."""


async def follow_work(
    recorder: HistoryRecorder, counters: WorkCounters, notifier: Notifier, watchers: Notifier
) -> None:
    """Record the work of the passes and notify ``watchers`` of every change, until cancelled."""
    while True:
        recorder.record_counters(time.time(), counters.work())
        watchers.notify()
        await notifier.wait()


async def follow_slot(recorder: HistoryRecorder, slot: ModelSlot, watchers: Notifier) -> None:
    """Record the slot's states and notify ``watchers`` of every change, until the slot is closed."""
    async for transition in slot.transitions():  # not ``watch``, whose snapshots read /proc on the event loop
        recorder.record_slot_status(transition)
        watchers.notify()


async def snapshots(take: Callable[[], Status], watchers: Notifier, at_most_every: float) -> AsyncIterator[Status]:
    """Yield a snapshot now and after every notification, also for those that come while the caller works.

    Args:
        take: Makes a snapshot.
        watchers: Notified when there is something new to see.
        at_most_every: Seconds between two snapshots at least.
    """
    while True:
        seen = watchers.notifications
        yield take()
        with anyio.move_on_after(HEARTBEAT):
            await watchers.after(seen)
        await anyio.sleep(at_most_every)
