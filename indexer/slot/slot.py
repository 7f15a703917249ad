"""The slot: one loaded model at a time, leased by priority, kept warm for a while, unloaded when nobody needs it.

``policy`` decides, ``scheduler`` executes the decision and starts loads and unloads, ``lease`` is what a caller holds.
This module does admission, fast rejection, release, and the snapshot that ``status`` shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from indexer.errors import SlotUnavailable
from indexer.slot.embedder import Loader, ModelSpec
from indexer.slot.failure import ATTEMPTS, CircuitBreaker, failure, reset_breaker
from indexer.slot.lease import ModelLease
from indexer.slot.priority_lock import Dismissed, Lease, Priority, PriorityLock
from indexer.slot.scheduler import Scheduler
from indexer.slot.slot_state import LeaseRequest, State
from indexer.slot.slot_types import (
    ErrorStatus,
    GpuStatus,
    HolderStatus,
    MemoryStatus,
    ModelStatus,
    OrphanStatus,
    QueueStatus,
    SlotSettings,
    SlotState,
    SlotStatus,
)
from indexer.slot.thread import ModelThread, ReleaseSteps, Runner, anonymous_bytes, device_bytes, resident_bytes
from indexer.waits import LOAD_RETRY_S

MIN_WAIT_S = 0.001
"""A wait of zero becomes this many seconds: a scope that has expired already would refuse even a free slot."""

T = TypeVar("T")


@asynccontextmanager
async def open_slot(
    loader: Loader,
    settings: SlotSettings | None = None,
    *,
    runner: Runner | None = None,
    clock: Callable[[], float] = time.time,
    release_steps: ReleaseSteps | None = None,
    gpu: GpuStatus | None = None,
) -> AsyncIterator[ModelSlot]:
    """Open the slot; leaving the block unloads the model and ends within ``limits.shutdown``.

    Args:
        loader: Loads models, on the model thread.
        settings: What the user decided.
        runner: The model thread; tests in virtual time bring their own.
        clock: Wall clock for the timestamps in the status; durations use the loop's clock.
        release_steps: How memory is released after an unload.
        gpu: The accelerator as probed without torch, shown in the status.
    """
    slot = ModelSlot(
        loader, settings or SlotSettings(), runner or ModelThread(), clock, release_steps or ReleaseSteps(), gpu
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot._scheduler.run_timer)
            try:
                yield slot
            finally:
                with anyio.CancelScope(shield=True):
                    await slot._close()
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:  # the block's own error, not wrapped by our task group
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise


class ModelSlot:
    """The slot; made by ``open_slot``. One event loop."""

    def __init__(
        self,
        loader: Loader,
        settings: SlotSettings,
        runner: Runner,
        clock: Callable[[], float],
        release_steps: ReleaseSteps,
        gpu: GpuStatus | None,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._runner = runner
        self._gpu = gpu or GpuStatus()
        self._state = State(clock, since=clock())
        self._scheduler = Scheduler(self._state, settings, runner, loader, release_steps)
        self._lock = self._scheduler.lock

    @asynccontextmanager
    async def use(
        self, spec: ModelSpec, priority: Priority = Priority.TOOL, *, wait: float | None = None, folder_rank: int = 0
    ) -> AsyncIterator[ModelLease]:
        """Lease a model for the length of a block.

        Args:
            spec: The model.
            priority: TOOL when a client waits for the answer, INDEX otherwise.
            wait: Seconds to wait at most; None = ``settings.tool_wait`` for TOOL, no limit for INDEX.
            folder_rank: For INDEX: the folder's position in the queue, smaller first.

        Raises:
            SlotUnavailable: The wait is over, or waiting makes no sense (raised at once).
            RuntimeError: This task already holds the slot.
        """
        try:
            lease, model_lease = await self._acquire(spec, priority, wait, folder_rank)
            try:
                yield model_lease
            finally:
                self._release(lease, model_lease)
        except anyio.get_cancelled_exc_class():
            self._state.count("cancelled")
            raise

    async def unload(self, reason: str = "asked") -> None:
        """Unload the model as soon as nobody waits for it, warm or not; returns when it is unloaded."""
        state = self._state
        before = state.counters.unloads
        if state.loaded is None and state.load is None:
            return
        state.unload_asked = reason
        self._scheduler.advance()
        try:
            while state.counters.unloads == before and (state.loaded or state.load) and not state.closed:
                await state.changed.wait()
        finally:
            state.unload_asked = None

    def retry(self, key: str) -> bool:
        """Retry a failed model now, even if its breaker is open; False when no model of this key or name failed."""
        failed = False
        now = anyio.current_time()
        for load_key, breaker in list(self._state.breakers.items()):
            if key in (breaker.spec.key, breaker.spec.name) and math.isfinite(breaker.not_before):
                self._state.breakers[load_key] = reset_breaker(breaker, now)
                self._state.asked_at[load_key] = now
                failed = True
        self._scheduler.advance()
        return failed

    @property
    def loaded_key(self) -> str:
        """The key of the model that is ready for use, or an empty string; cheap, unlike ``status``."""
        state = self._state
        return state.loaded.spec.key if state.loaded is not None and state.current == "ready" else ""

    def status(self) -> SlotStatus:
        """A snapshot; never waits. Reads the process's memory figures from the system. Call it on the event loop."""
        return slot_status(self._state, self._lock, anyio.current_time(), self._gpu)

    def watch(self) -> Changes[SlotStatus]:
        """The current snapshot, then one after each change, until the slot is closed."""
        return Changes(self._state, self.status)

    def transitions(self) -> Changes[Transition]:
        """The current state, then again after each change, until the slot is closed; takes no snapshots."""
        return Changes(self._state, lambda: current_transition(self._state))

    async def wait_for(self, state: SlotState, timeout: float | None = None) -> SlotStatus:
        """Wait until the slot is in a state and return the snapshot that shows it.

        Raises:
            TimeoutError: Not within ``timeout`` seconds.
            SlotUnavailable: The slot was closed.
        """
        with anyio.fail_after(timeout):
            async for snapshot in self.watch():
                if snapshot.state == state:
                    return snapshot
        raise failure("stopping", f"The slot was closed before it was {state}.").unavailable()

    async def _acquire(
        self, spec: ModelSpec, priority: Priority, wait: float | None, folder_rank: int
    ) -> tuple[Lease, ModelLease]:
        self._reject_early(spec, priority)
        request = LeaseRequest(spec, folder_rank)
        if wait is None:
            wait = self._settings.tool_wait if priority is Priority.TOOL else math.inf
        order = folder_rank if priority is Priority.INDEX else 0
        with anyio.CancelScope(deadline=anyio.current_time() + max(wait, MIN_WAIT_S)) as scope:
            try:
                lease = await self._lock.acquire(priority, order=order, tag=request)
            except Dismissed:
                refusal = request.refusal or failure("stopping", "The slot is being closed.")
                raise refusal.unavailable(request.retry_after) from None
        if scope.cancelled_caught:
            raise self._timeout_error(spec)
        loaded = self._state.loaded
        if loaded is None or self._state.closed:  # closed in the same tick of the loop as the grant
            self._lock.release(lease)
            raise failure("stopping", "The slot is being closed.").unavailable()
        assert loaded.key == request.key
        target = self._settings.target_cpu if loaded.spec.device == "cpu" else self._settings.target_gpu
        return lease, ModelLease(loaded, lease, self._lock, self._runner, self._scheduler.transitions, target)

    def _release(self, lease: Lease, model_lease: ModelLease) -> None:
        loaded, now = model_lease.close(), anyio.current_time()
        if loaded is not None:
            loaded.last_used = now
            if lease.priority is Priority.TOOL:
                loaded.warm_until = now + self._settings.keep_warm
            else:
                loaded.last_indexed_at = now
        if lease.priority is Priority.INDEX and any(w.priority is Priority.TOOL for w in self._lock.waiters):
            self._state.count("preemptions")
        self._lock.release(lease)

    def _reject_early(self, spec: ModelSpec, priority: Priority) -> None:
        """Raise ``SlotUnavailable`` when waiting makes no sense."""
        state, key, now = self._state, spec.load_key, anyio.current_time()
        tool = priority is Priority.TOOL
        if state.closed:
            raise failure("stopping", "The slot is closed.").unavailable()
        if tool:
            state.asked_at[key] = now
            if state.load is not None:
                state.load.requested_key = key
                self._cancel_unwanted_load()
        breaker = state.breakers.get(key)
        if breaker is not None and breaker.spec != spec:  # the configuration has changed: start a new series
            del state.breakers[key]
            breaker = None
        if tool and state.load is not None and state.load.timed_out_at is not None:
            message = f"A load of {state.load.spec.name!r} outlived its limit and still runs."
            raise failure("orphaned_load", message).unavailable(LOAD_RETRY_S)
        if breaker is not None and now < breaker.not_before and (tool or breaker.open):
            remaining = breaker.not_before - now
            raise breaker.failure.unavailable(remaining if math.isfinite(remaining) else None)
        waiting = sum(lease.priority is Priority.TOOL for lease in self._lock.waiters)
        if tool and waiting >= self._limits.waiting_tools:
            raise failure("busy", f"{waiting} searches already wait for the model.").unavailable(1.0)

    def _cancel_unwanted_load(self) -> None:
        load = self._state.load
        if load is not None and load.timed_out_at is not None:
            load.cancelled = load.requested_key != load.key

    def _timeout_error(self, spec: ModelSpec) -> SlotUnavailable:
        load = self._state.load
        if load is not None and load.key == spec.load_key:
            return failure("loading", f"{spec.name!r} is still being loaded.").unavailable(self._settings.tool_wait)
        return failure("waiting", f"The slot was not free for {spec.name!r} in time.").unavailable(1.0)

    async def _close(self) -> None:
        """Dismiss all waiters and unload within ``limits.shutdown``; a job that hangs is abandoned on its thread."""
        state, lock = self._state, self._lock
        state.closed = True
        self._scheduler.transitions.refuse(
            lambda request, tool: True, failure("stopping", "The slot is being closed."), None
        )
        if state.load is not None:
            state.load.cancelled = True
        if lock.owner is not None and isinstance(lock.owner.tag, LeaseRequest):
            lock.release(lock.owner)
        with anyio.move_on_after(self._limits.shutdown):
            while lock.owner is not None:
                await state.changed.wait()
            if state.loaded is not None:
                self._scheduler.transitions.begin_unload()
            while lock.owner is not None:
                await state.changed.wait()
        self._runner.close()
        self._scheduler.reschedule()


# Status -------------------------------------------------------------------------------------------------------------
# What clients see of the state. Reads only; never waits for the lock or the thread.


class Changes(Generic[T]):
    """An async iterator: ``read`` at once, then ``read`` after each change, until the slot closes.

    Several changes between two steps are one item. It is not a generator: leaving the loop early leaves nothing to
    close.
    """

    def __init__(self, state: State, read: Callable[[], T]) -> None:
        self._state = state
        self._read = read
        self._changed: anyio.Event | None = None
        self._last = False

    def __aiter__(self) -> Changes[T]:
        return self

    async def __anext__(self) -> T:
        if self._last:
            raise StopAsyncIteration
        if self._changed is not None:
            await self._changed.wait()
        self._changed, self._last = self._state.changed, self._state.closed
        return self._read()


@dataclass(frozen=True, slots=True)
class Transition:
    """A state of the slot.

    Attributes:
        epoch: Its number; equal when something else than the state has changed.
        since: When it was entered, wall clock.
        model: Name of the model in the slot, or of the one being loaded; empty when there is none.
    """

    epoch: int
    state: SlotState
    since: float
    model: str


def current_transition(state: State) -> Transition:
    """The current state, without reading anything from the system."""
    spec = _spec(state)
    return Transition(state.epoch, state.current, state.since, spec.name if spec is not None else "")


def slot_status(state: State, lock: PriorityLock, now: float, gpu: GpuStatus) -> SlotStatus:
    """A snapshot at loop time ``now``; its timestamps are wall clock."""
    offset = state.clock() - now

    def wall(at: float | None) -> float | None:
        return at + offset if at is not None and math.isfinite(at) else None

    loaded, load = state.loaded, state.load
    errors = tuple(_error(breaker, wall) for breaker in state.breakers.values())
    last = state.breakers.get(state.last_failed) if state.last_failed is not None else None
    orphaned = load is not None and load.timed_out_at is not None
    return SlotStatus(
        state=state.current,
        epoch=state.epoch,
        model=_model(state),
        requested=_requested(lock),
        since=state.since,
        loaded_at=wall(loaded.at) if loaded is not None else None,
        last_used_at=wall(loaded.last_used) if loaded is not None else None,
        warm_until=wall(loaded.warm_until) if loaded is not None else None,
        holder=_holder(lock, offset),
        queue=_queue(lock, now),
        stage=load.stage if load is not None else "",
        progress=load.share if load is not None else 0.0,
        memory=_memory(state),
        gpu=gpu,
        last_error=_error(last, wall) if last is not None else None,
        errors=errors,
        orphan=OrphanStatus(load.spec.key, (load.timed_out_at or now) + offset) if load and orphaned else None,
        breaker=tuple(sorted({breaker.spec.key for breaker in state.breakers.values() if breaker.open})),
        counters=state.counters,
        index_blocked_since=wall(state.blocked_since),
        micro_batch_s=loaded.pace.batch_s or None if loaded is not None else None,
    )


def _spec(state: State) -> ModelSpec | None:
    """The model in the slot, else the one being loaded."""
    if state.loaded is not None:
        return state.loaded.spec
    return state.load.spec if state.load is not None else None


def _model(state: State) -> ModelStatus | None:
    spec = _spec(state)
    if spec is None:
        return None
    return ModelStatus(spec.name, spec.key, spec.dim, spec.runtime, spec.device, spec.dtype, spec.kind)


def _requested(lock: PriorityLock) -> str:
    requests = [lease for lease in lock.waiters if isinstance(lease.tag, LeaseRequest)]
    first = min(requests, key=lock.rank, default=None)
    return first.tag.spec.name if first is not None and isinstance(first.tag, LeaseRequest) else ""


def _holder(lock: PriorityLock, offset: float) -> HolderStatus | None:
    owner = lock.owner
    if owner is None or owner.granted_at is None:
        return None
    since = owner.granted_at + offset
    if isinstance(owner.tag, LeaseRequest):
        return HolderStatus("tool" if owner.priority is Priority.TOOL else "index", since)
    return HolderStatus("unload" if owner.tag == "unload" else "load", since)


def _queue(lock: PriorityLock, now: float) -> QueueStatus:
    waiting = [lease for lease in lock.waiters if isinstance(lease.tag, LeaseRequest)]
    tools = sum(lease.priority is Priority.TOOL for lease in waiting)
    oldest = max((now - lease.enqueued for lease in waiting), default=0.0)
    return QueueStatus(tools, len(waiting) - tools, oldest)


def _memory(state: State) -> MemoryStatus:
    allocated, reserved = device_bytes()
    unloaded = state.unloaded
    return MemoryStatus(
        rss=resident_bytes(),
        rss_anon=anonymous_bytes(),
        floor_after_import=state.floor_after_import,
        device_allocated=allocated,
        device_reserved=reserved,
        before_unload=unloaded.before if unloaded is not None else None,
        after_unload=unloaded.after if unloaded is not None else None,
        leaked=unloaded.leaked if unloaded is not None else False,
    )


def _error(breaker: CircuitBreaker, wall: Callable[[float | None], float | None]) -> ErrorStatus:
    failed = breaker.failure
    return ErrorStatus(
        key=breaker.spec.key,
        name=breaker.spec.name,
        code=failed.code,
        message=failed.message,
        hint=failed.hint,
        at=breaker.at,
        attempt=breaker.attempt,
        max_attempts=ATTEMPTS if failed.retryable else 1,
        next_retry_at=wall(breaker.not_before),
        retryable=failed.retryable,
    )
