"""A priority lock owned by a lease, not by a task: strict class order, first come first served, no barging.

Invariants (the property tests in ``tests/indexer/slot/test_priority_lock.py`` hold them):

- I1 exclusion: at most one lease is granted and not released.
- I2 held means used: the lock is held exactly while its lease is open or a job of it still runs; if the holder leaves
  (or is cancelled) while its job runs, the lock is released when the job ends, not before.
- I3 no lost wake-up: a free lock has no waiter that is eligible.
- I4 order: a waiter is never granted before an earlier one of its class or one of a higher class; a waiter of class
  INDEX counts as TOOL once it has waited ``age_after`` seconds, so nobody starves.
- I5 cancellation of a waiter or holder leaves all of this true and returns at once.

One event loop only; nothing here is thread-safe. Aging is evaluated at hand-off, so there are no timers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

AGE_AFTER: Final = 60.0
"""Seconds after which a waiting INDEX lease counts as TOOL."""


class Priority(IntEnum):
    """Smaller goes before larger. UNLOAD is for the slot's own loads and unloads."""

    TOOL = 0
    INDEX = 1
    UNLOAD = 2


class Dismissed(Exception):
    """The waiter was dismissed by ``PriorityLock.dismiss``."""


class Lease:
    """One claim on the lock, from the moment it is requested until it is released.

    Attributes:
        priority: Its class.
        order: Within its class smaller goes first; equal ones in order of arrival.
        tag: Data of the caller's.
        seq: Order of arrival.
        enqueued: When it was requested, loop time.
        granted_at: When it was granted, loop time, or None.
        busy: Jobs of it still running.
        busy_since: When the running job began, loop time.
        open: Its holder has not released it yet.
        idle_since: Since when it has been held without a running job, loop time.
    """

    def __init__(self, priority: Priority, order: int, tag: object, seq: int, enqueued: float, task: int) -> None:
        self.priority = priority
        self.order = order
        self.tag = tag
        self.seq = seq
        self.enqueued = enqueued
        self.task = task
        self.event = anyio.Event()
        self.granted_at: float | None = None
        self.idle_since = self.busy_since = enqueued
        self.busy = 0
        self.open = True
        self.released = False
        self.dismissed = False

    @property
    def granted(self) -> bool:
        """Whether it holds (or held) the lock."""
        return self.granted_at is not None


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """A snapshot.

    Attributes:
        held: Whether a lease holds the lock.
        busy: Whether a job runs under it.
        waiting: How many wait, by class.
        oldest_wait_s: The longest wait so far, seconds.
    """

    held: bool
    busy: bool
    waiting: dict[Priority, int]
    oldest_wait_s: float


class PriorityLock:
    """The lock.

    Args:
        age_after: Seconds after which a waiting INDEX lease counts as TOOL.
        clock: Loop time.
        on_change: Called after a waiter came or left and after the lock became free; it may call ``hand_over`` or
            ``acquire_nowait``. By default the first in order gets a free lock.
    """

    def __init__(
        self,
        *,
        age_after: float = AGE_AFTER,
        clock: Callable[[], float] = anyio.current_time,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._age_after = age_after
        self._clock = clock
        self._on_change = on_change or self._serve_first
        self._owner: Lease | None = None
        self._waiters: list[Lease] = []
        self._seq = itertools.count()

    @property
    def owner(self) -> Lease | None:
        """The lease that holds the lock."""
        return self._owner

    @property
    def waiters(self) -> tuple[Lease, ...]:
        """The leases that wait, in order of arrival."""
        return tuple(self._waiters)

    async def acquire(self, priority: Priority, *, order: int = 0, tag: object = None) -> Lease:
        """Wait for the lock and return the lease that holds it.

        Raises:
            RuntimeError: This task already holds the lock (it would wait for itself for ever).
            Dismissed: ``dismiss`` was called on the waiting lease.
        """
        await checkpoint_if_cancelled()
        task = anyio.get_current_task().id
        if self._owner is not None and self._owner.open and self._owner.task == task:
            raise RuntimeError("this task already holds the lock; leave its block before asking again")
        lease = Lease(priority, order, tag, next(self._seq), self._clock(), task)
        self._waiters.append(lease)
        self._on_change()
        try:
            if lease.granted:
                await cancel_shielded_checkpoint()
            else:
                await lease.event.wait()
        except BaseException:
            self._withdraw(lease)
            raise
        if lease.dismissed:
            raise Dismissed
        return lease

    def acquire_nowait(self, tag: object = None) -> Lease:
        """Take a free lock at once, without waiting: for the slot's own work.

        Raises:
            RuntimeError: The lock is held.
        """
        if self._owner is not None:
            raise RuntimeError("the lock is held")
        lease = Lease(Priority.UNLOAD, 0, tag, next(self._seq), self._clock(), 0)
        self._grant(lease)
        return lease

    def hand_over(self, eligible: Callable[[Lease], bool] = lambda lease: True) -> Lease | None:
        """Give a free lock to the first in order among the eligible waiters; None when there is none."""
        if self._owner is not None:
            return None
        candidates = [lease for lease in self._waiters if eligible(lease)]
        if not candidates:
            return None
        lease = min(candidates, key=self.rank)
        self._waiters.remove(lease)
        self._grant(lease)  # direct: the lock is never free in between, so a newcomer cannot overtake
        return lease

    def rank(self, lease: Lease) -> tuple[int, int, int]:
        """Sort key of a waiter now: class (aged INDEX counts as TOOL), order within the class, arrival."""
        if lease.priority is Priority.INDEX and self._clock() - lease.enqueued >= self._age_after:
            return (Priority.TOOL, 0, lease.seq)
        return (lease.priority, lease.order, lease.seq)

    def dismiss(self, lease: Lease) -> None:
        """Make a waiter's ``acquire`` raise ``Dismissed``; no effect on a lease that does not wait."""
        if lease in self._waiters:
            self._waiters.remove(lease)
            lease.dismissed = True
            lease.event.set()

    def release(self, lease: Lease) -> None:
        """Release the lease; the lock becomes free now, or when the running job ends. May be called again."""
        lease.open = False
        self._free_when_done(lease)

    def job_started(self, lease: Lease) -> None:
        """A job of this lease begins; pair with ``job_ended``."""
        if not lease.busy:
            lease.busy_since = self._clock()
        lease.busy += 1

    def job_ended(self, lease: Lease) -> None:
        """A job of this lease has really ended, whether or not anybody still waits for it."""
        lease.busy -= 1
        lease.idle_since = lease.busy_since = self._clock()
        self._free_when_done(lease)

    def statistics(self) -> LockStatistics:
        """A snapshot; changes nothing."""
        now = self._clock()
        waiting = {priority: sum(lease.priority is priority for lease in self._waiters) for priority in Priority}
        oldest = max((now - lease.enqueued for lease in self._waiters), default=0.0)
        return LockStatistics(self._owner is not None, bool(self._owner and self._owner.busy), waiting, oldest)

    def _grant(self, lease: Lease) -> None:
        self._owner = lease
        lease.granted_at = lease.idle_since = self._clock()
        lease.event.set()

    def _withdraw(self, lease: Lease) -> None:
        # A cancelled waiter either still waits (remove it) or was granted the lock in the same tick (release it, or
        # nobody ever would).
        if lease.granted:
            self.release(lease)
        elif lease in self._waiters:
            self._waiters.remove(lease)
            self._on_change()

    def _free_when_done(self, lease: Lease) -> None:
        if lease.open or lease.busy or lease.released or not lease.granted:
            return
        lease.released = True
        self._owner = None
        self._on_change()

    def _serve_first(self) -> None:
        self.hand_over()
