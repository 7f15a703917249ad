"""The record as people see it: builds the immutable ``SlotStatus``. Reads only; never waits for lock or thread."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from indexer.model.embedder import ModelSpec
from indexer.model.memory import anonymous_bytes, device_bytes, resident_bytes
from indexer.model.priority_lock import Priority, PriorityLock
from indexer.model.record import Record, Want
from indexer.model.snapshot import (
    ErrorStatus,
    GpuStatus,
    HolderStatus,
    MemoryStatus,
    ModelStatus,
    OrphanStatus,
    QueueStatus,
    SlotStatus,
)
from indexer.model.trouble import ATTEMPTS, Trouble


class Snapshots:
    """An async iterator of snapshots: the present one at once, then one after each change, until the slot closes.

    Changes between two looks are seen as one. Not a generator: leaving the loop early leaves nothing to close.
    """

    def __init__(self, record: Record, status: Callable[[], SlotStatus]) -> None:
        self._record = record
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
        self._changed, self._last = self._record.changed, self._record.closed
        return self._status()


def slot_status(record: Record, lock: PriorityLock, now: float, gpu: GpuStatus) -> SlotStatus:
    """A snapshot at loop time ``now``."""
    offset = record.clock() - now

    def wall(at: float | None) -> float | None:
        return at + offset if at is not None and math.isfinite(at) else None

    loaded, load = record.loaded, record.load
    errors = tuple(_error(trouble, wall) for trouble in record.troubles.values())
    last = record.troubles.get(record.last_trouble) if record.last_trouble is not None else None
    orphaned = load is not None and load.orphaned_at is not None
    return SlotStatus(
        state=record.state,
        epoch=record.epoch,
        model=_model(record),
        requested=_requested(lock),
        since=record.since,
        loaded_at=wall(loaded.at) if loaded is not None else None,
        last_used_at=wall(loaded.last_used) if loaded is not None else None,
        warm_until=wall(loaded.warm_until) if loaded is not None else None,
        holder=_holder(lock, offset),
        queue=_queue(lock, now),
        stage=load.stage if load is not None else "",
        progress=load.share if load is not None else 0.0,
        memory=_memory(record),
        gpu=gpu,
        last_error=_error(last, wall) if last is not None else None,
        errors=errors,
        orphan=OrphanStatus(load.spec.key, (load.orphaned_at or now) + offset) if load and orphaned else None,
        breaker=tuple(sorted({trouble.spec.key for trouble in record.troubles.values() if trouble.open})),
        counters=record.counters,
        index_blocked_since=wall(record.blocked_since),
        micro_batch_s=loaded.pace.batch_s or None if loaded is not None else None,
    )


def _model(record: Record) -> ModelStatus | None:
    spec: ModelSpec | None = None
    if record.loaded is not None:
        spec = record.loaded.spec
    elif record.load is not None:
        spec = record.load.spec
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


def _memory(record: Record) -> MemoryStatus:
    allocated, reserved = device_bytes()
    unloaded = record.unloaded
    return MemoryStatus(
        rss=resident_bytes(),
        rss_anon=anonymous_bytes(),
        floor_after_import=record.floor,
        device_allocated=allocated,
        device_reserved=reserved,
        before_unload=unloaded.before if unloaded is not None else None,
        after_unload=unloaded.after if unloaded is not None else None,
        leaked=unloaded.leaked if unloaded is not None else False,
    )


def _error(trouble: Trouble, wall: Callable[[float | None], float | None]) -> ErrorStatus:
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
