"""What happened in the last hour: the slot's states, the searches, and what was indexed, in bounded memory.

Kept for people who watch; nothing decides by it, nothing of it is written to a disk, and no query's text is in it.
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
"""Seconds that are kept."""
MINUTE = 60.0
CHANGES = 600
"""Changes of the slot's state kept at most; a load, its use and its unload are four."""
SEARCHES = 600
"""Searches kept at most."""


@dataclass(frozen=True, slots=True)
class SlotChange:
    """The slot came into a state.

    Attributes:
        model: Name of the model in the slot, or on its way in or out; empty when there is none.
    """

    at: float
    state: SlotState
    model: str


@dataclass(frozen=True, slots=True)
class Searched:
    """A search was answered.

    Attributes:
        at: When the answer was ready.
        elapsed_ms: Time taken, milliseconds.
        semantic: What the meaning half did: ``served``, ``partial``, ``unavailable``, ``off``.
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
        written: Chunks that can be found by word since then.
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
        since: From when on everything is known: an hour ago, or when the process began.
        changes: The slot's states. The first one may be older than ``since``: it is the state at that time.
        minutes: Only those in which something was indexed.
    """

    at: float
    since: float
    changes: tuple[SlotChange, ...] = ()
    searches: tuple[Searched, ...] = ()
    minutes: tuple[Minute, ...] = ()


class Recorder:
    """Writes the history down. One event loop, no lock; the caller brings the time.

    Attributes:
        searches: The last searches; whoever answers one appends it.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._changes: deque[SlotChange] = deque(maxlen=CHANGES)
        self.searches: deque[Searched] = deque(maxlen=SEARCHES)
        self._minutes: deque[Minute] = deque(maxlen=int(KEPT_S / MINUTE) + 1)
        self._epoch = -1
        self._work = Work()

    def slot_is(self, slot: Transition) -> None:
        """Take note of the slot's state, if it is another one."""
        if slot.epoch == self._epoch:
            return
        self._epoch = slot.epoch
        self._changes.append(SlotChange(slot.since, slot.state, slot.model))

    def work_is(self, now: float, work: Work) -> None:
        """Take note of the work done since the last call: it goes to the present minute."""
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
        """The last hour, or what of it came after a time; the minute of that time is told as a whole."""
        start = max(self._began, now - KEPT_S)
        changes = _in_force(tuple(self._changes), start)
        return History(
            now,
            start,
            tuple(each for each in changes if each.at > after),
            tuple(each for each in self.searches if each.at >= start and each.at > after),
            tuple(each for each in self._minutes if each.at + MINUTE > max(start, after)),
        )


def _in_force(changes: tuple[SlotChange, ...], start: float) -> tuple[SlotChange, ...]:
    """The changes from a time on, and the last one before it: it tells the state at that time."""
    before = [change for change in changes if change.at <= start]
    return (*before[-1:], *(change for change in changes if change.at > start))


# Recording ----------------------------------------------------------------------------------------------------------
# What wakes those who watch, and what is written down for them meanwhile.

HEARTBEAT = 15.0
"""Seconds after which a snapshot goes out although nothing was announced: memory and ages change by themselves."""


async def record_work(recorder: Recorder, counters: WorkCounters, notifier: Notifier, shown: Notifier) -> None:
    """Write down what the passes do, and pass every beat on to those who watch; until cancelled."""
    while True:
        recorder.work_is(time.time(), counters.work())
        shown.notify()
        await notifier.wait()


async def record_slot(recorder: Recorder, slot: ModelSlot, shown: Notifier) -> None:
    """Write down the slot's states, and pass every change of it on to those who watch; until it is closed."""
    async for transition in slot.transitions():  # not ``watch``, whose snapshots read /proc on the event loop
        recorder.slot_is(transition)
        shown.notify()


async def snapshots(take: Callable[[], Status], shown: Notifier, at_most_every: float) -> AsyncIterator[Status]:
    """Yield a snapshot now and after every beat, also after those that fall between two looks.

    Args:
        take: Makes a snapshot.
        shown: Beats when there is something new to see.
        at_most_every: Seconds between two snapshots at least.
    """
    while True:
        seen = shown.notifications
        yield take()
        with anyio.move_on_after(HEARTBEAT):
            await shown.after(seen)
        await anyio.sleep(at_most_every)
