"""The slot: exactly one model at a time, lent by priority, warm for a while, unloaded when nobody wants it.

``policy`` decides, ``scheduler`` carries it out and starts loads and unloads, ``lease`` is what a borrower holds. This
module does admission, fast rejection and release.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from indexer.errors import SlotUnavailable
from indexer.slot.embedder import Loader, ModelSpec
from indexer.slot.failure import ATTEMPTS, CircuitBreaker, failure, reset_breaker
from indexer.slot.lease import ModelLease
from indexer.slot.priority_lock import Dismissed, Lease, Priority, PriorityLock
from indexer.slot.scheduler import Scheduler
from indexer.slot.slot_state import State, Want
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
from indexer.slot.thread import ModelThread, Recipe, Runner, anonymous_bytes, device_bytes, resident_bytes
from indexer.waits import LOAD_RETRY_S

SHORTEST_WAIT = 0.001
"""Seconds a wait of zero becomes: a free slot is lent at once, but never through a scope that is over already."""


@asynccontextmanager
async def open_slot(
    loader: Loader,
    settings: SlotSettings | None = None,
    *,
    runner: Runner | None = None,
    clock: Callable[[], float] = time.time,
    recipe: Recipe | None = None,
    gpu: GpuStatus | None = None,
) -> AsyncIterator[ModelSlot]:
    """Open the slot; leaving the block unloads the model and ends within ``limits.shutdown``.

    Args:
        loader: Loads models, on the model thread.
        settings: What the user decided.
        runner: The model thread; tests in virtual time bring their own.
        clock: Wall clock for the stamps in the status; durations use the loop's clock.
        recipe: Steps of giving memory back.
        gpu: The accelerator as probed without torch, shown in the status.
    """
    slot = ModelSlot(loader, settings or SlotSettings(), runner or ModelThread(), clock, recipe or Recipe(), gpu)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot._scheduler.keep_time)
            try:
                yield slot
            finally:
                with anyio.CancelScope(shield=True):
                    await slot._shut()
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
        recipe: Recipe,
        gpu: GpuStatus | None,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._runner = runner
        self._gpu = gpu or GpuStatus()
        self._state = State(clock, since=clock())
        self._scheduler = Scheduler(self._state, settings, runner, loader, recipe)
        self._lock = self._scheduler.lock

    @asynccontextmanager
    async def use(
        self, spec: ModelSpec, priority: Priority = Priority.TOOL, *, wait: float | None = None, folder_rank: int = 0
    ) -> AsyncIterator[ModelLease]:
        """Borrow a model for the length of a block.

        Args:
            spec: The model.
            priority: TOOL for somebody who waits for an answer, INDEX for the rest.
            wait: Seconds to wait at most; None = ``settings.tool_wait`` for TOOL, without end for INDEX.
            folder_rank: For INDEX: the folder's place in line, smaller first.

        Raises:
            SlotUnavailable: Not within the wait, or at once when waiting makes no sense.
            RuntimeError: This task already holds the slot.
        """
        try:
            lease, model_lease = await self._borrow(spec, priority, wait, folder_rank)
            try:
                yield model_lease
            finally:
                self._take_back(lease, model_lease)
        except anyio.get_cancelled_exc_class():
            self._state.count("cancelled")
            raise

    async def unload(self, reason: str = "asked") -> None:
        """Unload the model once nobody waits for it, warm or not; returns when it is out."""
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
        """Try a failed model again now, whatever its breaker says; False when nothing by this key or name failed."""
        found = False
        now = anyio.current_time()
        for load_key, trouble in list(self._state.breakers.items()):
            if key in (trouble.spec.key, trouble.spec.name) and math.isfinite(trouble.not_before):
                self._state.breakers[load_key] = reset_breaker(trouble, now)
                self._state.asked_at[load_key] = now
                found = True
        self._scheduler.advance()
        return found

    def status(self) -> SlotStatus:
        """A snapshot; never waits. Call it on the event loop."""
        return slot_status(self._state, self._lock, anyio.current_time(), self._gpu)

    def watch(self) -> Snapshots:
        """The present snapshot, then one after each change, until the slot is closed."""
        return Snapshots(self._state, self.status)

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

    async def _borrow(
        self, spec: ModelSpec, priority: Priority, wait: float | None, folder_rank: int
    ) -> tuple[Lease, ModelLease]:
        self._refuse_at_once(spec, priority)
        want = Want(spec, folder_rank)
        if wait is None:
            wait = self._settings.tool_wait if priority is Priority.TOOL else math.inf
        order = folder_rank if priority is Priority.INDEX else 0
        with anyio.CancelScope(deadline=anyio.current_time() + max(wait, SHORTEST_WAIT)) as scope:
            try:
                lease = await self._lock.acquire(priority, order=order, tag=want)
            except Dismissed:
                refusal = want.refusal or failure("stopping", "The slot is being closed.")
                raise refusal.unavailable(want.retry_after) from None
        if scope.cancelled_caught:
            raise self._not_in_time(spec)
        loaded = self._state.loaded
        if loaded is None or self._state.closed:  # closed in the very tick of the grant
            self._lock.release(lease)
            raise failure("stopping", "The slot is being closed.").unavailable()
        assert loaded.key == want.key
        target = self._settings.target_cpu if loaded.spec.device == "cpu" else self._settings.target_gpu
        return lease, ModelLease(loaded, lease, self._lock, self._runner, self._scheduler.transitions, target)

    def _take_back(self, lease: Lease, model_lease: ModelLease) -> None:
        loaded, now = model_lease.close(), anyio.current_time()
        if loaded is not None:
            loaded.last_used = now
            if lease.priority is Priority.TOOL:
                loaded.warm_until = now + self._settings.keep_warm
            else:
                loaded.used_until = now
        if lease.priority is Priority.INDEX and any(w.priority is Priority.TOOL for w in self._lock.waiters):
            self._state.count("preemptions")
        self._lock.release(lease)

    def _refuse_at_once(self, spec: ModelSpec, priority: Priority) -> None:
        """Raise ``SlotUnavailable`` where waiting makes no sense."""
        state, key, now = self._state, spec.load_key, anyio.current_time()
        tool = priority is Priority.TOOL
        if state.closed:
            raise failure("stopping", "The slot is closed.").unavailable()
        if tool:
            state.asked_at[key] = now
            if state.load is not None:
                state.load.requested_key = key
                self._drop_unwanted_orphan()
        trouble = state.breakers.get(key)
        if trouble is not None and trouble.spec != spec:  # the configuration has changed: a new start
            del state.breakers[key]
            trouble = None
        if tool and state.load is not None and state.load.orphaned_at is not None:
            said = f"A load of {state.load.spec.name!r} outlived its limit and still runs."
            raise failure("orphaned_load", said).unavailable(LOAD_RETRY_S)
        if trouble is not None and now < trouble.not_before and (tool or trouble.open):
            left = trouble.not_before - now
            raise trouble.failure.unavailable(left if math.isfinite(left) else None)
        waiting = sum(lease.priority is Priority.TOOL for lease in self._lock.waiters)
        if tool and waiting >= self._limits.waiting_tools:
            raise failure("busy", f"{waiting} searches already wait for the model.").unavailable(1.0)

    def _drop_unwanted_orphan(self) -> None:
        load = self._state.load
        if load is not None and load.orphaned_at is not None:
            load.dropped = load.requested_key != load.key

    def _not_in_time(self, spec: ModelSpec) -> SlotUnavailable:
        load = self._state.load
        if load is not None and load.key == spec.load_key:
            return failure("loading", f"{spec.name!r} is still being loaded.").unavailable(self._settings.tool_wait)
        return failure("waiting", f"The slot was not free for {spec.name!r} in time.").unavailable(1.0)

    async def _shut(self) -> None:
        """Send everybody away and unload, all within ``limits.shutdown``; a job that hangs is left to its thread."""
        state, lock = self._state, self._lock
        state.closed = True
        self._scheduler.transitions.refuse(
            lambda want, tool: True, failure("stopping", "The slot is being closed."), None
        )
        if state.load is not None:
            state.load.dropped = True
        if lock.owner is not None and isinstance(lock.owner.tag, Want):
            lock.release(lock.owner)
        with anyio.move_on_after(self._limits.shutdown):
            while lock.owner is not None:
                await state.changed.wait()
            if state.loaded is not None:
                self._scheduler.transitions.begin_unload()
            while lock.owner is not None:
                await state.changed.wait()
        self._runner.close()
        self._scheduler.touched()


# Status of the slot -------------------------------------------------------------------------------------------------
# The state as people see it: builds the immutable ``SlotStatus``. Reads only; never waits for lock or thread.


class Snapshots:
    """An async iterator of snapshots: the present one at once, then one after each change, until the slot closes.

    Changes between two looks are seen as one. Not a generator: leaving the loop early leaves nothing to close.
    """

    def __init__(self, state: State, status: Callable[[], SlotStatus]) -> None:
        self._state = state
        self._status = status
        self._changed: anyio.Event | None = None
        self._last = False

    def __aiter__(self) -> Snapshots:
        return self

    async def __anext__(self) -> SlotStatus:
        if self._last:
            raise StopAsyncIteration
        if self._changed is not None:
            await self._changed.wait()
        self._changed, self._last = self._state.changed, self._state.closed
        return self._status()


def slot_status(state: State, lock: PriorityLock, now: float, gpu: GpuStatus) -> SlotStatus:
    """A snapshot at loop time ``now``."""
    offset = state.clock() - now

    def wall(at: float | None) -> float | None:
        return at + offset if at is not None and math.isfinite(at) else None

    loaded, load = state.loaded, state.load
    errors = tuple(_error(trouble, wall) for trouble in state.breakers.values())
    last = state.breakers.get(state.last_trouble) if state.last_trouble is not None else None
    orphaned = load is not None and load.orphaned_at is not None
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
        orphan=OrphanStatus(load.spec.key, (load.orphaned_at or now) + offset) if load and orphaned else None,
        breaker=tuple(sorted({trouble.spec.key for trouble in state.breakers.values() if trouble.open})),
        counters=state.counters,
        index_blocked_since=wall(state.blocked_since),
        micro_batch_s=loaded.pace.batch_s or None if loaded is not None else None,
    )


def _model(state: State) -> ModelStatus | None:
    spec: ModelSpec | None = None
    if state.loaded is not None:
        spec = state.loaded.spec
    elif state.load is not None:
        spec = state.load.spec
    if spec is None:
        return None
    return ModelStatus(spec.name, spec.key, spec.dim, spec.runtime, spec.device, spec.dtype, spec.kind)


def _requested(lock: PriorityLock) -> str:
    wants = [lease for lease in lock.waiters if isinstance(lease.tag, Want)]
    first = min(wants, key=lock.rank, default=None)
    return first.tag.spec.name if first is not None and isinstance(first.tag, Want) else ""


def _holder(lock: PriorityLock, offset: float) -> HolderStatus | None:
    owner = lock.owner
    if owner is None or owner.granted_at is None:
        return None
    since = owner.granted_at + offset
    if isinstance(owner.tag, Want):
        return HolderStatus("tool" if owner.priority is Priority.TOOL else "index", since)
    return HolderStatus("unload" if owner.tag == "unload" else "load", since)


def _queue(lock: PriorityLock, now: float) -> QueueStatus:
    waiting = [lease for lease in lock.waiters if isinstance(lease.tag, Want)]
    tools = sum(lease.priority is Priority.TOOL for lease in waiting)
    oldest = max((now - lease.enqueued for lease in waiting), default=0.0)
    return QueueStatus(tools, len(waiting) - tools, oldest)


def _memory(state: State) -> MemoryStatus:
    allocated, reserved = device_bytes()
    unloaded = state.unloaded
    return MemoryStatus(
        rss=resident_bytes(),
        rss_anon=anonymous_bytes(),
        floor_after_import=state.floor,
        device_allocated=allocated,
        device_reserved=reserved,
        before_unload=unloaded.before if unloaded is not None else None,
        after_unload=unloaded.after if unloaded is not None else None,
        leaked=unloaded.leaked if unloaded is not None else False,
    )


def _error(trouble: CircuitBreaker, wall: Callable[[float | None], float | None]) -> ErrorStatus:
    found = trouble.failure
    return ErrorStatus(
        key=trouble.spec.key,
        name=trouble.spec.name,
        code=found.code,
        message=found.message,
        hint=found.hint,
        at=trouble.at,
        attempt=trouble.attempt,
        max_attempts=ATTEMPTS if found.retryable else 1,
        next_retry_at=wall(trouble.not_before),
        retryable=found.retryable,
    )
