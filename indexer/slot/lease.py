"""The loaded model as its borrower sees it, for the length of one lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio

from indexer.slot.embedder import Model, ModelSpec, embedding, reranking
from indexer.slot.failure import Failure, failure
from indexer.slot.micro_batch import budget, measured, overflowed, padded, take
from indexer.slot.priority_lock import Lease, PriorityLock
from indexer.slot.slot_state import Loaded
from indexer.slot.thread import Runner

if TYPE_CHECKING:
    from indexer.types import Matrix, Vector

T = TypeVar("T")
GRACE_S = 1.0
"""Seconds a lease has for its first job before it is asked to yield."""
TOKEN_CHARS = 4
"""Characters a token has, roughly: for the pace of batches whose lengths were not told by ``take``."""


class LeaseIssuer(Protocol):
    """What a loan asks of the slot."""

    def should_yield(self, lease: Lease) -> bool:
        """Whether somebody goes before this lease."""

    def failed(self, found: Failure) -> None:
        """A job failed for good."""

    def halved(self) -> None:
        """A batch did not fit the memory and goes on in halves."""

    def touched(self) -> None:
        """A job has ended: the time at which an idle lease is revoked has moved."""

    def give_back(self) -> Callable[[], object]:
        """The job that returns unused memory, to run on the model thread."""


class ModelLease:
    """A model on loan: valid inside its ``async with slot.use(...)`` block, unless the watchdog revoked it.

    Attributes:
        spec: What is loaded, ``dim`` and the real device filled in.
    """

    def __init__(
        self, loaded: Loaded, lease: Lease, lock: PriorityLock, runner: Runner, lender: LeaseIssuer, target_s: float
    ) -> None:
        self.spec: ModelSpec = loaded.spec
        self._loaded: Loaded | None = loaded
        self._lease = lease
        self._lock = lock
        self._runner = runner
        self._lender = lender
        self._target_s = target_s
        self._taken: tuple[int, int] = (0, 0)
        self._worked = False

    async def embed_query(self, text: str) -> Vector:
        """Embed one query: float32 [dim], unit length.

        Raises:
            SlotUnavailable: The job failed or the lease was revoked.
        """
        return self._value(await self._run(lambda model: embedding(model).embed_query(text)))

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """Embed one micro-batch: float32 [n, dim], rows of unit length, in order.

        A batch that does not fit the memory is embedded in halves. Ask ``should_yield`` after each batch.

        Raises:
            SlotUnavailable: The job failed, or a single text does not fit the memory, or the lease was revoked.
        """
        tokens = self._tokens(texts)
        began = anyio.current_time()
        result = await self._run(lambda model: embedding(model).embed_passages(texts))
        loaded = self._loaded
        if not isinstance(result, Failure):
            if loaded is not None:
                loaded.pace = measured(loaded.pace, tokens, anyio.current_time() - began)
            return result
        if not result.code.startswith("out_of_memory") or len(texts) < 2 or loaded is None:
            return self._value(result)
        loaded.pace = overflowed(loaded.pace, tokens)
        self._lender.halved()
        return await self._in_halves(texts)

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Compare a query with a few texts: the reranker's logits, higher is better, in order.

        Raises:
            SlotUnavailable: The job failed or the lease was revoked.
        """
        return self._value(await self._run(lambda model: reranking(model).score(query, texts)))

    def should_yield(self) -> bool:
        """Whether to leave the block now and ask again: somebody goes before us. For indexing, at each batch.

        A lease that has not embedded anything yet is left a moment to do so, or one that came in by its age or by
        the starvation cap would leave again without its one micro-batch.
        """
        if self._loaded is None or not self._lease.open:
            return True
        if not self._worked and anyio.current_time() - (self._lease.granted_at or 0.0) < GRACE_S:
            return False
        return self._lender.should_yield(self._lease)

    def take(self, lengths: Sequence[int]) -> int:
        """How many of the next texts make one micro-batch; at least one when there is one.

        Args:
            lengths: Tokens of the next texts in the order they will be embedded, best sorted by length.
        """
        if self._loaded is None or not lengths:
            return min(1, len(lengths))
        count = take(lengths, budget(self._loaded.pace, self._target_s))
        self._taken = (count, padded(lengths[:count]))
        return count

    def close(self) -> Loaded | None:
        """End the loan: nothing runs after it, and nothing here refers to the model. Returns what was lent."""
        loaded, self._loaded = self._loaded, None
        return loaded

    async def _in_halves(self, texts: Sequence[str]) -> Matrix:
        import numpy as np  # noqa: PLC0415 - heavy, and imported by now

        await self._run_job(self._lender.give_back())
        middle = len(texts) // 2
        self._taken = (0, 0)
        first = await self.embed_passages(texts[:middle])
        return np.concatenate([first, await self.embed_passages(texts[middle:])])

    async def _run(self, call: Callable[[Model], T]) -> T | Failure:
        if self._loaded is None or self._loaded.embedder is None or not self._lease.open:
            return failure("revoked", "The loan of the model has ended.")
        self._worked = True
        # No local name for the embedder here: an exception somebody keeps would keep this frame and thus the model.
        return await self._run_job(_Bound(call, self._loaded.embedder))

    async def _run_job(self, job: Callable[[], T]) -> T | Failure:
        done = anyio.Event()
        answer: list[T | Failure] = []

        def finished(result: T | Failure) -> None:
            answer.append(result)
            done.set()
            self._lock.job_ended(self._lease)
            self._lender.touched()

        self._lock.job_started(self._lease)
        self._runner.submit(job, finished)
        del job
        await done.wait()  # cancelled here, the job still runs and the lock stays held until ``finished``
        return answer.pop()

    def _value(self, result: T | Failure) -> T:
        if isinstance(result, Failure):
            self._lender.failed(result)
            raise result.unavailable()
        return result

    def _tokens(self, texts: Sequence[str]) -> int:
        count, tokens = self._taken
        if count == len(texts) and tokens:
            return tokens
        return padded([len(text) // TOKEN_CHARS + 2 for text in texts])


class _Bound(Generic[T]):
    """A call on the embedder that forgets it once it has been made."""

    __slots__ = ("_call", "_embedder")

    def __init__(self, call: Callable[[Model], T], embedder: Model) -> None:
        self._call: Callable[[Model], T] | None = call
        self._embedder: Model | None = embedder

    def __call__(self) -> T:
        call, embedder = self._call, self._embedder
        self._call = self._embedder = None
        assert call is not None and embedder is not None
        return call(embedder)
