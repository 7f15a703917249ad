"""The slot's state: one mutable record, changed only by the slot and its scheduler, on the event loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import anyio

from indexer.slot.embedder import Loader, Model, ModelSpec, Progress
from indexer.slot.failure import CircuitBreaker, Failure, classify, failure
from indexer.slot.lease import LoadedModel
from indexer.slot.policy import Key, Retry, Ticket, View
from indexer.slot.priority_lock import Lease, Priority, PriorityLock
from indexer.slot.slot_types import Counters, Limits, SlotState
from indexer.slot.thread import ReleaseSteps, UnloadResult, release_memory

# The load in progress -----------------------------------------------------------------------------------------------

IMPORT_STAGE = "runtime"
"""The stage in which a loader imports its libraries; the first time it has a limit of its own."""


@dataclass(slots=True)
class RunningLoad:
    """A load as the event loop sees it while it runs on the model thread. Loop times.

    Its limits are checked against the progress that the thread reports. A scope around the wait would not do: the
    wait for a thread is shielded, so ``fail_after(30)`` around it returns normally after an hour (measured on both
    backends).

    Attributes:
        lease: Holds the lock until the load has really ended.
        importing: The load imports a runtime that this process has not imported yet.
        started_at: When the part under ``Limits.load`` began.
        last_progress_at: When it last reported progress.
        share: Progress within the stage, 0 to 1.
        requested_key: The model the last tool call asked for; the load's own unless another was asked for meanwhile.
        cancelled: Nobody needs the model any more. The thread reads it between stages.
        timed_out_at: When the load exceeded its limit, or None.
    """

    spec: ModelSpec
    lease: Lease
    importing: bool
    started_at: float
    last_progress_at: float
    stage: str = ""
    share: float = 0.0
    requested_key: Key | None = None
    cancelled: bool = False
    timed_out_at: float | None = None

    @property
    def key(self) -> Key:
        """The model asked for; the loaded one may run on another device in the end."""
        return self.spec.load_key

    def record_progress(self, stage: str, share: float, now: float) -> None:
        """Record progress."""
        if self.importing and stage != IMPORT_STAGE:
            self.importing = False
            self.started_at = now  # the import does not count
        self.stage, self.share, self.last_progress_at = stage, share, now

    def deadline(self, limits: Limits) -> float:
        """The loop time at which the load has failed unless it reports progress before."""
        if self.importing:
            return self.started_at + limits.runtime_import
        return min(self.last_progress_at + limits.stall, self.started_at + limits.load)

    def timeout_failure(self, limits: Limits) -> Failure:
        """The failure of a load that has passed its ``deadline``."""
        where = f" in stage {self.stage!r}" if self.stage else ""
        if self.importing:
            message = f"Importing the runtime {self.spec.runtime!r} took more than {limits.runtime_import:.0f} s."
            return failure("load_timeout", message, retryable=False)
        if self.last_progress_at + limits.stall <= self.started_at + limits.load:
            message = f"Loading {self.spec.name!r} made no progress for {limits.stall:.0f} s{where}."
        else:
            message = f"Loading {self.spec.name!r} took more than {limits.load:.0f} s{where}."
        return failure("load_timeout", message)


def load_with_fallback(
    loader: Loader,
    spec: ModelSpec,
    progress: Progress,
    stopped: Callable[[], bool],
    release_steps: ReleaseSteps,
    allow_cpu: bool,
) -> Model:
    """Load on the model thread; when memory runs out, release what can be and try once more, then on the CPU.

    Raises:
        Exception: What the last attempt raised.
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
        # After the ``except`` block: inside it the traceback's frames still refer to a partly loaded model.
        release_memory(loader, release_steps)
    raise AssertionError("the last try returns or raises")


# State --------------------------------------------------------------------------------------------------------------

TRANSITIONS: Final[frozenset[tuple[SlotState, SlotState]]] = frozenset(
    {
        ("idle", "loading"),
        ("loading", "ready"),
        ("loading", "error"),
        ("loading", "idle"),  # cancelled: nobody needed the model any more
        ("error", "loading"),  # a retry, another model, or a load that ended well after its limit
        ("ready", "unloading"),
        ("ready", "error"),  # the device was lost
        ("error", "unloading"),  # ... and the model on it is unloaded
        ("unloading", "idle"),
        ("unloading", "error"),
    }
)
"""Every change of state that is possible."""


@dataclass(slots=True)
class LeaseRequest:
    """The tag of a lease that a caller waits for or holds: which model, and why it was refused if it was."""

    spec: ModelSpec
    folder_rank: int = 0
    refusal: Failure | None = None
    retry_after: float | None = None

    @property
    def key(self) -> Key:
        """The model asked for."""
        return self.spec.load_key


@dataclass(slots=True)
class State:
    """The slot's state. Loop times, except ``since``, which is wall clock.

    Attributes:
        last_failed: The model whose load failed last.
        reserved_for: See ``policy.View``; likewise ``blocked_since`` and ``skipped_count``.
        imported: Runtimes that this process has imported for a load.
        asked_at: When a tool call last asked for each model.
        lost: Why the loaded model can no longer be used (its device was lost).
        unload_asked: Why an unload was requested, or None.
        floor_after_import: Anonymous memory after the first import of a runtime, bytes.
        unloaded: What the last unload did.
        wedged: Only a restart of the process helps; the owner has been told.
        changed: Set, and replaced by a new event, at each change.
    """

    clock: Callable[[], float]
    current: SlotState = "idle"
    epoch: int = 0
    since: float = 0.0
    loaded: LoadedModel | None = None
    load: RunningLoad | None = None
    breakers: dict[Key, CircuitBreaker] = field(default_factory=dict)
    last_failed: Key | None = None
    counters: Counters = field(default_factory=Counters)
    imported: set[str] = field(default_factory=set)
    asked_at: dict[Key, float] = field(default_factory=dict)
    blocked_since: float | None = None
    reserved_for: Key | None = None
    skipped_count: int = 0
    lost: Failure | None = None
    unload_asked: str | None = None
    floor_after_import: int | None = None
    unloaded: UnloadResult | None = None
    wedged: bool = False
    closed: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)

    def transition_to(self, following: SlotState) -> None:
        """Enter another state, by one of ``TRANSITIONS``."""
        assert (self.current, following) in TRANSITIONS, f"no transition {self.current} -> {following}"
        self.current = following
        self.since = self.clock()
        self.epoch += 1

    def publish(self) -> None:
        """Wake every task that waits for a change."""
        self.changed.set()
        self.changed = anyio.Event()

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.counters = replace(self.counters, **{name: getattr(self.counters, name) + 1})


def policy_view(state: State, lock: PriorityLock, now: float, keep_warm: float) -> View:
    """The state as the policy sees it.

    Also updates ``blocked_since``, and ``reserved_for`` when the request it was reserved for has gone.
    """
    waiting = tuple(
        Ticket(lease.seq, lease.tag.key, lease.priority, lease.enqueued, lease.tag.folder_rank)
        for lease in lock.waiters
        if isinstance(lease.tag, LeaseRequest)
    )
    not_before = {key: breaker.not_before for key, breaker in state.breakers.items()}
    loaded = state.loaded
    warm_until = loaded.warm_until if loaded is not None else None
    blocked = (
        warm_until is not None and now < warm_until and any(_blocked(t, loaded, not_before, now) for t in waiting)
    )
    state.blocked_since = (now if state.blocked_since is None else state.blocked_since) if blocked else None
    if not any(t.key == state.reserved_for and t.priority is Priority.INDEX for t in waiting):
        state.reserved_for = None  # its request has gone: no other may use the reservation
    return View(
        busy=lock.owner is not None,
        loading=state.load.key if state.load is not None and state.load.timed_out_at is None else None,
        loaded=loaded.key if loaded is not None else None,
        lost=state.lost is not None,
        tickets=waiting,
        warm_until=warm_until,
        last_indexed_at=loaded.last_indexed_at if loaded is not None else None,
        blocked_since=state.blocked_since,
        reserved_for=state.reserved_for,
        skipped_count=state.skipped_count,
        not_before=not_before,
        retries=tuple(
            Retry(key, breaker.not_before, state.asked_at.get(key, -math.inf) + keep_warm)
            for key, breaker in state.breakers.items()
            if not breaker.open
        ),
        unload_asked=state.unload_asked is not None,
    )


def _blocked(ticket: Ticket, loaded: LoadedModel | None, not_before: dict[Key, float], now: float) -> bool:
    other = loaded is not None and ticket.key != loaded.key
    return other and ticket.priority is Priority.INDEX and now >= not_before.get(ticket.key, now)
