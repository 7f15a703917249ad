"""Work in the empty slot: something that brings its own models, one at a time, and makes room at every step.

The work is a generator. Each ``next`` is one job on the model thread; between two the slot looks whether somebody
else wants it. Closing the generator, also on the model thread, drops whatever model it has: until that has happened
the lock stays held, so never two models are alive.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import anyio

from indexer.model.embedder import Loader, ModelSpec, Progress
from indexer.model.failure import Failure, failure
from indexer.model.memory import Recipe, give_back
from indexer.model.priority_lock import Dismissed, Lease, Priority, PriorityLock
from indexer.model.record import Occupation, Record
from indexer.model.thread import Runner

T = TypeVar("T")
Steps: TypeAlias = Callable[[Progress, Callable[[], bool]], Generator[None, None, T]]
"""``steps(progress, stopped)`` begins the work; a step that takes long asks ``stopped`` and raises ``Stopped``."""


@dataclass(frozen=True, slots=True)
class _Ended(Generic[T]):
    """The work is done."""

    value: T


class EmptySlot:
    """Lends the slot without a model. Part of the slot; one event loop.

    Args:
        touched: Called when the work has got somewhere.
    """

    def __init__(
        self,
        record: Record,
        lock: PriorityLock,
        runner: Runner,
        loader: Loader,
        recipe: Recipe,
        touched: Callable[[], None],
    ) -> None:
        self._record = record
        self._lock = lock
        self._runner = runner
        self._loader = loader
        self._recipe = recipe
        self._touched = touched

    async def occupy(self, spec: ModelSpec, steps: Steps[T]) -> T:
        """See ``ModelSlot.occupy``."""
        while True:
            result = await self._once(Occupation(spec), steps)
            if isinstance(result, _Ended):
                return result.value
            if result is not None and result.code != "stopped":
                raise result.unavailable()

    def shut(self) -> None:
        """Send away who waits, and have running work end with its step."""
        for lease in (*self._lock.waiters, self._lock.owner):
            if lease is not None and isinstance(lease.tag, Occupation):
                lease.tag.unwanted = True
                self._lock.dismiss(lease)

    async def _once(self, work: Occupation, steps: Steps[T]) -> _Ended[T] | Failure | None:
        """Work until the end, a failure, or until somebody else wants the slot (None)."""
        lease = await self._enter(work)
        running: list[Generator[None, None, T]] = []
        begin = partial(steps, partial(self._progress, work), lambda: work.unwanted)
        result: _Ended[T] | Failure | None = None
        try:
            while result is None and not work.unwanted:
                result = await self._job(lease, partial(_step, running, begin))
        finally:
            left = self._leave(lease, running)
        await left.wait()
        return result

    async def _enter(self, work: Occupation) -> Lease:
        closed = failure("stopping", "The slot is closed.").unavailable()
        if self._record.closed:
            raise closed
        try:
            lease = await self._lock.acquire(Priority.SPARE, tag=work)
        except Dismissed:
            raise closed from None
        if self._record.closed:  # in the very tick of the grant
            self._lock.release(lease)
            raise closed
        self._record.become("exporting")
        self._touched()
        return lease

    def _leave(self, lease: Lease, running: list[Generator[None, None, T]]) -> anyio.Event:
        """Close the work on the model thread, behind a step that may still run; the lock passes on after that."""
        left = anyio.Event()

        def closed(result: object) -> None:
            running.clear()
            left.set()
            self._record.become("idle")
            self._lock.job_ended(lease)

        self._lock.job_started(lease)
        self._runner.submit(partial(_close, running, self._loader, self._recipe), closed)
        self._lock.release(lease)
        return left

    async def _job(self, lease: Lease, job: Callable[[], _Ended[T] | None]) -> _Ended[T] | Failure | None:
        done = anyio.Event()
        answer: list[_Ended[T] | Failure | None] = []

        def finished(result: _Ended[T] | Failure | None) -> None:
            answer.append(result)
            done.set()
            self._lock.job_ended(lease)
            self._touched()

        self._lock.job_started(lease)
        self._runner.submit(job, finished)
        await done.wait()  # cancelled here, the step still runs and the lock stays held
        return answer.pop()

    def _progress(self, work: Occupation, stage: str, share: float) -> None:  # on the model thread
        self._runner.post(partial(self._heard, work, stage, share))

    def _heard(self, work: Occupation, stage: str, share: float) -> None:
        work.stage, work.share = stage, share
        self._touched()


def _step(running: list[Generator[None, None, T]], begin: Callable[[], Generator[None, None, T]]) -> _Ended[T] | None:
    if not running:
        running.append(begin())
    try:
        next(running[0])
    except StopIteration as end:
        return _Ended(end.value)
    return None


def _close(running: list[Generator[None, None, T]], loader: Loader, recipe: Recipe) -> None:
    try:
        for work in running:
            work.close()
    finally:
        running.clear()
        give_back(loader, recipe)
