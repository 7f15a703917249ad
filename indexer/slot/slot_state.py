"""What the slot knows: one mutable record, changed only by the slot (and its ``Transit``), on the event loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import anyio

from indexer.slot.embedder import Loader, Model, ModelSpec, Progress
from indexer.slot.failure import CircuitBreaker, Failure, classify, failure
from indexer.slot.micro_batch import Pace
from indexer.slot.policy import Key, Retry, Ticket, View
from indexer.slot.priority_lock import Lease, Priority, PriorityLock
from indexer.slot.slot_types import Counters, Limits, SlotState
from indexer.slot.thread import Recipe, Unloaded, give_back

# The load in progress -----------------------------------------------------------------------------------------------
# One load: what is known of it on the event loop while it runs, its limits, and what runs on the model thread.
#
# The limits are judged by what the loop hears from the thread. A scope around the wait would not do: the wait for a
# thread is shielded, so ``fail_after(30)`` around it returns normally after an hour (measured on both backends).

IMPORT_STAGE = "runtime"


@dataclass(slots=True)
class RunningLoad:
    """A running load. Loop times.

    Attributes:
        lease: Holds the lock for it until it has really ended.
        importing: It imports a runtime this process has not imported yet, under a limit of its own.
        began: When the part under ``Limits.load`` began.
        heard: When it last reported progress.
        requested_key: The model the last tool call asked for; the load's own unless another was asked for meanwhile.
        dropped: Read by the thread between stages: nobody wants it any more.
        orphaned_at: When it outlived its limit, or None.
    """

    spec: ModelSpec
    lease: Lease
    importing: bool
    began: float
    heard: float
    stage: str = ""
    share: float = 0.0
    requested_key: Key | None = None
    dropped: bool = False
    orphaned_at: float | None = None

    @property
    def key(self) -> Key:
        """The model asked for (the device may differ from what is loaded in the end)."""
        return self.spec.load_key

    def progress(self, stage: str, share: float, now: float) -> None:
        """Take note of a sign of life."""
        if self.importing and stage != IMPORT_STAGE:
            self.importing = False
            self.began = now  # the import does not count
        self.stage, self.share, self.heard = stage, share, now

    def deadline(self, limits: Limits) -> float:
        """When it will have failed unless something is heard."""
        if self.importing:
            return self.began + limits.runtime_import
        return min(self.heard + limits.stall, self.began + limits.load)

    def overdue(self, limits: Limits) -> Failure:
        """The failure of having passed ``deadline``."""
        where = f" in stage {self.stage!r}" if self.stage else ""
        if self.importing:
            said = f"Importing the runtime {self.spec.runtime!r} took more than {limits.runtime_import:.0f} s."
            return failure("load_timeout", said, retryable=False)
        if self.heard + limits.stall <= self.began + limits.load:
            said = f"Loading {self.spec.name!r} made no progress for {limits.stall:.0f} s{where}."
        else:
            said = f"Loading {self.spec.name!r} took more than {limits.load:.0f} s{where}."
        return failure("load_timeout", said)


def attempt(
    loader: Loader,
    spec: ModelSpec,
    progress: Progress,
    stopped: Callable[[], bool],
    recipe: Recipe,
    allow_cpu: bool,
) -> Model:
    """Load on the model thread; when memory runs out, give back what can be and try once more, then on the CPU.

    Raises:
        Exception: Whatever the last try raised.
    """
    tries = [spec, spec]
    if allow_cpu and spec.device != "cpu":
        tries.append(replace(spec, device="cpu", dtype="float32"))
    for number, candidate in enumerate(tries, start=1):
        try:
            return loader.load(candidate, progress, stopped)
        except Exception as error:
            code = classify(error).code
            if not code.startswith("out_of_memory") or number == len(tries):
                raise
            if code == "out_of_memory_host" and number > 1:
                raise
        # Outside of ``except``: until then the traceback's frames hold half a model.
        give_back(loader, recipe)
    raise AssertionError("the last try returns or raises")


# State --------------------------------------------------------------------------------------------------------------

EDGES: Final[frozenset[tuple[SlotState, SlotState]]] = frozenset(
    {
        ("idle", "loading"),
        ("loading", "ready"),
        ("loading", "error"),
        ("loading", "idle"),  # dropped: nobody wanted it any more
        ("error", "loading"),  # a retry, another model, or an orphan that came home
        ("ready", "unloading"),
        ("ready", "error"),  # the device was lost
        ("error", "unloading"),  # ... and the model on it goes
        ("unloading", "idle"),
        ("unloading", "error"),
    }
)
"""Every change of state there is."""


@dataclass(slots=True)
class Loaded:
    """The model in the slot. ``embedder`` is the one lasting reference to it; None once it is on its way out."""

    key: Key
    spec: ModelSpec
    embedder: Model | None
    at: float
    warm_until: float | None = None
    used_until: float | None = None
    last_used: float | None = None
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True)
class Want:
    """The tag of a waiting or holding lease: what is wanted, and why it was refused."""

    spec: ModelSpec
    folder_rank: int = 0
    refusal: Failure | None = None
    retry_after: float | None = None

    @property
    def key(self) -> Key:
        """The model wanted."""
        return self.spec.load_key


@dataclass(slots=True)
class State:
    """The slot's state. Times are loop time unless a name says wall.

    Attributes:
        reserved_for: See ``policy.View``; likewise ``blocked_since`` and ``skipped_count``.
        imported: Runtimes this process has imported through a load.
        asked_at: When a tool call last asked for a model.
        lost: Why the loaded model can no longer be used.
        unload_asked: Why somebody asked to unload, or None.
        wedged: Only a restart of the process helps; the owner has been told.
    """

    clock: Callable[[], float]
    current: SlotState = "idle"
    epoch: int = 0
    since: float = 0.0
    loaded: Loaded | None = None
    load: RunningLoad | None = None
    breakers: dict[Key, CircuitBreaker] = field(default_factory=dict)
    last_trouble: Key | None = None
    counters: Counters = field(default_factory=Counters)
    imported: set[str] = field(default_factory=set)
    asked_at: dict[Key, float] = field(default_factory=dict)
    blocked_since: float | None = None
    reserved_for: Key | None = None
    skipped_count: int = 0
    lost: Failure | None = None
    unload_asked: str | None = None
    floor: int | None = None
    unloaded: Unloaded | None = None
    wedged: bool = False
    closed: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)

    def become(self, following: SlotState) -> None:
        """Change the state along an edge of ``EDGES``."""
        assert (self.current, following) in EDGES, f"no edge {self.current} -> {following}"
        self.current = following
        self.since = self.clock()
        self.epoch += 1

    def publish(self) -> None:
        """Wake everybody who watches."""
        self.changed.set()
        self.changed = anyio.Event()

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.counters = replace(self.counters, **{name: getattr(self.counters, name) + 1})


def tickets(lock: PriorityLock) -> tuple[Ticket, ...]:
    """Those who wait, as the policy sees them."""
    return tuple(
        Ticket(lease.seq, lease.tag.key, lease.priority, lease.enqueued, lease.tag.folder_rank)
        for lease in lock.waiters
        if isinstance(lease.tag, Want)
    )


def view(state: State, lock: PriorityLock, now: float, keep_warm: float) -> View:
    """The record as the policy sees it. Notes since when the warm window blocks indexing, and who has left."""
    waiting = tickets(lock)
    not_before = {key: trouble.not_before for key, trouble in state.breakers.items()}
    loaded = state.loaded
    warm_until = loaded.warm_until if loaded is not None else None
    blocked = (
        warm_until is not None and now < warm_until and any(_blocked(t, loaded, not_before, now) for t in waiting)
    )
    state.blocked_since = (now if state.blocked_since is None else state.blocked_since) if blocked else None
    if not any(t.key == state.reserved_for and t.priority is Priority.INDEX for t in waiting):
        state.reserved_for = None  # who was owed a turn has left: nobody may jump the queue in its name
    return View(
        busy=lock.owner is not None,
        loading=state.load.key if state.load is not None and state.load.orphaned_at is None else None,
        loaded=loaded.key if loaded is not None else None,
        lost=state.lost is not None,
        tickets=waiting,
        warm_until=warm_until,
        used_until=loaded.used_until if loaded is not None else None,
        blocked_since=state.blocked_since,
        reserved_for=state.reserved_for,
        skipped_count=state.skipped_count,
        not_before=not_before,
        retries=tuple(
            Retry(key, trouble.not_before, state.asked_at.get(key, -math.inf) + keep_warm)
            for key, trouble in state.breakers.items()
            if not trouble.open
        ),
        unload_asked=state.unload_asked is not None,
    )


def _blocked(ticket: Ticket, loaded: Loaded | None, not_before: dict[Key, float], now: float) -> bool:
    other = loaded is not None and ticket.key != loaded.key
    return other and ticket.priority is Priority.INDEX and now >= not_before.get(ticket.key, now)
