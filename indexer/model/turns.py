"""Whose turn it is, carried out: asks the policy after every change and when a time has come, and does what it says.

Decision and change happen in one go, without an ``await`` in between: what was read is still true when it is acted
upon. A read that gates a change somewhere else would be a bug.
"""

from __future__ import annotations

import logging
import math

import anyio

from indexer.model.embedder import Loader, ModelSpec
from indexer.model.memory import Recipe
from indexer.model.policy import Action, Drop, Key, Load, Rules, Serve, Unload, Wait, decide
from indexer.model.priority_lock import Priority, PriorityLock
from indexer.model.record import Record, Want, view
from indexer.model.slot_settings import SlotSettings
from indexer.model.thread import Runner
from indexer.model.transit import Transit

log = logging.getLogger(__name__)


class Turns:
    """The lock, the model's way in and out, and the timer, driven by ``policy.decide``.

    Attributes:
        lock: Who holds the slot and who waits.
        transit: Loads and unloads.
    """

    def __init__(self, record: Record, settings: SlotSettings, runner: Runner, loader: Loader, recipe: Recipe) -> None:
        self._record = record
        self._keep_warm = settings.keep_warm
        self._limits = settings.limits
        self._rules = Rules(starvation_cap=settings.starvation_cap, linger=settings.linger)
        self.lock = PriorityLock(on_change=self.advance)
        self.transit = Transit(record, self.lock, runner, loader, settings, self._rules, recipe, self.touched)
        self._deadline = math.inf
        self._policy_deadline = math.inf
        self._alarm = anyio.Event()

    def advance(self, at: float = -math.inf) -> None:
        """Decide and do. The one place; called after every change and when a time has come."""
        if not self._record.closed:
            now = max(anyio.current_time(), at)  # a timer may fire a clock tick early
            action = decide(view(self._record, self.lock, now, self._keep_warm), now, self._rules)
            self._policy_deadline = math.inf
            self._do(action, now)
        self.touched()

    def _do(self, action: Action, now: float) -> None:
        record = self._record
        match action:
            case Serve():
                self._serve(now)
            case Load(key):
                spec, favour = self._wanted_spec(key)
                self.transit.begin_load(spec, favour)
            case Unload(reason, capped):
                if reason == "swap":
                    record.count("swaps")
                if capped is not None:
                    record.count("starvation_cap_hits")
                    record.owed = capped
                self.transit.begin_unload()
            case Drop():
                if record.load is not None:
                    record.load.dropped = True
            case Wait(until):
                self._policy_deadline = math.inf if until is None else until

    def _serve(self, now: float) -> None:
        record, loaded = self._record, self._record.loaded
        assert loaded is not None
        key = loaded.key
        lease = self.lock.hand_over(lambda w: isinstance(w.tag, Want) and w.tag.key == key)
        if lease is None:
            return
        if lease.priority is Priority.TOOL:
            loaded.warm_until = now + self._keep_warm
            rivals = any(
                w.priority is Priority.TOOL and isinstance(w.tag, Want) and w.tag.key != key for w in self.lock.waiters
            )
            record.passed = record.passed + 1 if rivals else 0
        else:
            record.owed = None

    def _wanted_spec(self, key: Key) -> tuple[ModelSpec, Key | None]:
        """What to load for a key, and the key again if a tool call wants it."""
        wants = [(w.priority, w.tag.spec) for w in self.lock.waiters if isinstance(w.tag, Want) and w.tag.key == key]
        if wants:
            priority, spec = min(wants, key=lambda pair: pair[0])
            return spec, key if priority is Priority.TOOL else None
        return self._record.troubles[key].spec, key  # a retry for an asker who was sent away

    async def keep_time(self) -> None:
        """The one timer: wakes at the next time that matters."""
        while True:
            alarm, deadline = self._alarm, self._deadline
            with anyio.CancelScope(deadline=deadline):
                await alarm.wait()
            if not alarm.is_set():
                self._on_time(max(anyio.current_time(), deadline))

    def touched(self) -> None:
        """Set the timer anew and wake everybody who watches."""
        deadline = min([self._policy_deadline, *self._times()]) if not self._record.closed else math.inf
        if deadline != self._deadline:
            self._deadline = deadline
            self._alarm.set()
            self._alarm = anyio.Event()
        self._record.publish()

    def _times(self) -> list[float]:
        """Loop times at which a limit is reached."""
        load, owner, limits = self._record.load, self.lock.owner, self._limits
        if load is not None and load.orphaned_at is None:
            return [load.deadline(limits)]
        if owner is not None and not owner.busy:
            return [owner.idle_since + limits.idle_lease]
        if owner is None or self._record.wedged:  # the owner of the process knows already
            return []
        if load is not None:
            return [(load.orphaned_at or 0.0) + limits.orphan]
        return [owner.busy_since + limits.job]

    def _on_time(self, now: float) -> None:
        load, owner, limits = self._record.load, self.lock.owner, self._limits
        due = now >= min([math.inf, *self._times()])
        if due and load is not None and load.orphaned_at is None:
            self.transit.orphan(load, now)
        elif due and load is not None:
            self.transit.wedge(f"loading {load.spec.name!r} has not ended {limits.orphan:.0f} s after its limit")
        elif due and owner is not None and owner.busy:
            self.transit.wedge(f"a job on the model thread has not ended after {now - owner.busy_since:.0f} s")
        elif due and owner is not None:
            log.warning("a lease without a job for %.0f s was revoked", limits.idle_lease)
            self._record.count("revoked")
            self.lock.release(owner)
        self.advance(now)
