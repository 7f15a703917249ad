"""The lease: the loaded model as its holder sees it, and how many texts make one micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import anyio

from indexer.slot.embedder import Model, ModelSpec, as_embedder, as_reranker
from indexer.slot.failure import Failure, failure
from indexer.slot.policy import Key
from indexer.slot.priority_lock import Lease, PriorityLock
from indexer.slot.thread import Runner

if TYPE_CHECKING:
    from indexer.types import Matrix, Vector

T = TypeVar("T")
GRACE_S = 1.0
"""Seconds a lease has for its first job before it is asked to yield."""
_CHARS_PER_TOKEN = 4
"""A rough estimate, for the pace of batches whose token counts are not known from ``batch_size``."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a loaded model embeds, as measured.

    Attributes:
        tokens_per_s: Moving average of padded tokens a second, 0.0 before the first measurement.
        largest: Most padded tokens in a batch so far.
        ceiling: Most padded tokens of a batch since one did not fit the memory; 0 when all did.
        batch_s: Moving average of a batch's seconds, 0.0 before the first.
    """

    tokens_per_s: float = 0.0
    largest: int = 0
    ceiling: int = 0
    batch_s: float = 0.0


@dataclass(slots=True)
class LoadedModel:
    """The model in the slot. Loop times.

    Attributes:
        key: The model asked for; ``spec`` says what was loaded, maybe on another device.
        embedder: The only lasting reference to the model; None once its unload has begun.
        at: When it was loaded.
        warm_until: How long it stays loaded for tool calls.
        last_indexed_at: When indexing last gave it back.
        last_used: When anybody last gave it back.
        pace: How fast it embeds.
    """

    key: Key
    spec: ModelSpec
    embedder: Model | None
    at: float
    warm_until: float | None = None
    last_indexed_at: float | None = None
    last_used: float | None = None
    pace: Pace = field(default_factory=Pace)


class LeaseIssuer(Protocol):
    """What a lease asks of the slot."""

    def should_yield(self, lease: Lease) -> bool:
        """Whether another request goes before this lease."""

    def job_failed(self, reason: Failure) -> None:
        """A job failed for good."""

    def batch_halved(self) -> None:
        """A batch did not fit the memory; its halves are embedded instead."""

    def reschedule(self) -> None:
        """A job has ended: the time at which an idle lease is revoked has moved."""

    def release_memory(self) -> Callable[[], object]:
        """The job that releases unused memory, to run on the model thread."""


class ModelLease:
    """The right to use a model: valid inside its ``async with slot.use(...)`` block, unless the watchdog revoked it.

    Attributes:
        spec: What is loaded, with ``dim`` and the real device.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        lease: Lease,
        lock: PriorityLock,
        runner: Runner,
        issuer: LeaseIssuer,
        target_s: float,
    ) -> None:
        self.spec: ModelSpec = loaded.spec
        self._loaded: LoadedModel | None = loaded
        self._lease = lease
        self._lock = lock
        self._runner = runner
        self._issuer = issuer
        self._target_s = target_s
        self._planned = (0, 0)  # texts and padded tokens of the batch that ``batch_size`` has last returned
        self._has_run = False

    async def embed_query(self, text: str) -> Vector:
        """Embed one query: float32 [dim], unit length.

        Raises:
            SlotUnavailable: The job failed or the lease was revoked.
        """
        return self._result_of(await self._run(lambda model: as_embedder(model).embed_query(text)))

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """Embed one micro-batch: float32 [n, dim], rows of unit length, in order.

        A batch that does not fit the memory is embedded in halves. Ask ``should_yield`` after each batch.

        Raises:
            SlotUnavailable: The job failed, or a single text does not fit the memory, or the lease was revoked.
        """
        tokens = self._tokens(texts)
        began = anyio.current_time()
        result = await self._run(lambda model: as_embedder(model).embed_passages(texts))
        loaded = self._loaded
        if not isinstance(result, Failure):
            if loaded is not None:
                loaded.pace = after_batch(loaded.pace, tokens, anyio.current_time() - began)
            return result
        if not result.code.startswith("out_of_memory") or len(texts) < 2 or loaded is None:
            return self._result_of(result)
        loaded.pace = after_overflow(loaded.pace, tokens)
        self._issuer.batch_halved()
        return await self._embed_in_halves(texts)

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Compare a query with a few texts: the reranker's logits, higher is better, in order.

        Raises:
            SlotUnavailable: The job failed or the lease was revoked.
        """
        return self._result_of(await self._run(lambda model: as_reranker(model).score(query, texts)))

    def should_yield(self) -> bool:
        """Whether to leave the block now and request a new lease. Indexing asks after each micro-batch.

        False for the first ``GRACE_S`` seconds of a lease that has embedded nothing yet: one that was granted for its
        age or by the starvation cap would leave again without its one micro-batch.
        """
        if self._loaded is None or not self._lease.open:
            return True
        if not self._has_run and anyio.current_time() - (self._lease.granted_at or 0.0) < GRACE_S:
            return False
        return self._issuer.should_yield(self._lease)

    def batch_size(self, lengths: Sequence[int]) -> int:
        """How many of the next texts make one micro-batch; at least one when there is one.

        Args:
            lengths: Tokens of the next texts in the order in which they will be embedded, best sorted by length.
        """
        if self._loaded is None or not lengths:
            return min(1, len(lengths))
        count = batch_size(lengths, token_budget(self._loaded.pace, self._target_s))
        self._planned = (count, padded_tokens(lengths[:count]))
        return count

    def close(self) -> LoadedModel | None:
        """End the lease: nothing runs after it, and nothing here refers to the model. Returns what was leased."""
        loaded, self._loaded = self._loaded, None
        return loaded

    async def _embed_in_halves(self, texts: Sequence[str]) -> Matrix:
        import numpy as np  # noqa: PLC0415 - heavy, and imported by the model by now

        await self._run_job(self._issuer.release_memory())
        middle = len(texts) // 2
        self._planned = (0, 0)
        first = await self.embed_passages(texts[:middle])
        return np.concatenate([first, await self.embed_passages(texts[middle:])])

    async def _run(self, call: Callable[[Model], T]) -> T | Failure:
        if self._loaded is None or self._loaded.embedder is None or not self._lease.open:
            return failure("revoked", "The loan of the model has ended.")
        self._has_run = True
        # No local name for the embedder here: an exception that somebody keeps would keep this frame and so the model.
        return await self._run_job(_SingleUseCall(call, self._loaded.embedder))

    async def _run_job(self, job: Callable[[], T]) -> T | Failure:
        done = anyio.Event()
        answer: list[T | Failure] = []

        def finished(result: T | Failure) -> None:
            answer.append(result)
            done.set()
            self._lock.job_ended(self._lease)
            self._issuer.reschedule()

        self._lock.job_started(self._lease)
        self._runner.submit(job, finished)
        del job
        await done.wait()  # cancelled here, the job still runs and the lock stays held until ``finished``
        return answer.pop()

    def _result_of(self, result: T | Failure) -> T:
        if isinstance(result, Failure):
            self._issuer.job_failed(result)
            raise result.unavailable()
        return result

    def _tokens(self, texts: Sequence[str]) -> int:
        count, tokens = self._planned
        if count == len(texts) and tokens:
            return tokens
        return padded_tokens([len(text) // _CHARS_PER_TOKEN + 2 for text in texts])


class _SingleUseCall(Generic[T]):
    """A call on the embedder that forgets the embedder when it is made."""

    __slots__ = ("_call", "_embedder")

    def __init__(self, call: Callable[[Model], T], embedder: Model) -> None:
        self._call: Callable[[Model], T] | None = call
        self._embedder: Model | None = embedder

    def __call__(self) -> T:
        call, embedder = self._call, self._embedder
        self._call = self._embedder = None
        assert call is not None and embedder is not None
        return call(embedder)


# Micro-batches ------------------------------------------------------------------------------------------------------
# How many texts are embedded in one job: as many as fit a time, so that a waiting query soon gets the slot.
#
# A padded batch costs about ``longest * count`` tokens (text-embeddings-inference counts its batches so), and tokens
# per second differ by a factor of a thousand between machines and models (a fixed 16 x 256 took 19-31 s for a base
# model on two cores), so the budget is measured, not configured.

SMOOTHING: Final = 0.3
"""Weight of the newest measurement in the moving average."""
FIRST_BUDGET: Final = 256
"""Padded tokens before anything was measured: a fraction of a second on a slow CPU."""
GROWTH: Final = 4.0
"""A budget is at most this many times the largest batch so far: one tiny batch must not raise it far."""
LARGEST_BUDGET: Final = 65_536
"""Padded tokens that no batch exceeds, whatever the speed: limits the memory of one batch."""


def after_batch(pace: Pace, tokens: int, seconds: float) -> Pace:
    """The pace after one more batch of ``tokens`` padded tokens that took ``seconds``."""
    if tokens <= 0 or seconds <= 0.0:
        return pace
    speed = tokens / seconds
    if pace.tokens_per_s:
        speed = SMOOTHING * speed + (1 - SMOOTHING) * pace.tokens_per_s
    duration = SMOOTHING * seconds + (1 - SMOOTHING) * pace.batch_s if pace.batch_s else seconds
    return Pace(speed, max(pace.largest, tokens), pace.ceiling, duration)


def after_overflow(pace: Pace, tokens: int) -> Pace:
    """The pace after a batch of ``tokens`` padded tokens ran out of memory: never more than half of it again."""
    ceiling = max(1, tokens // 2)
    ceiling = min(ceiling, pace.ceiling) if pace.ceiling else ceiling
    return Pace(pace.tokens_per_s, min(pace.largest, ceiling), ceiling, pace.batch_s)


def token_budget(pace: Pace, target_s: float) -> int:
    """Padded tokens of the next batch so that it takes about ``target_s`` seconds; at least 1."""
    aim = float(FIRST_BUDGET)
    if pace.tokens_per_s:
        aim = min(pace.tokens_per_s * target_s, max(pace.largest * GROWTH, FIRST_BUDGET))
    limit = min(LARGEST_BUDGET, pace.ceiling or LARGEST_BUDGET)
    return max(1, min(int(aim), limit))


def batch_size(lengths: Sequence[int], tokens: int) -> int:
    """How many of the next texts make one batch within a budget; at least one when there is one.

    Args:
        lengths: Tokens of the next texts, in the order in which they will be embedded (sorting wastes least).
        tokens: Budget of padded tokens.
    """
    longest = 0
    for count, length in enumerate(lengths):
        longest = max(longest, length)
        if count and longest * (count + 1) > tokens:
            return count
    return len(lengths)


def padded_tokens(lengths: Sequence[int]) -> int:
    """Tokens a padded batch of these lengths costs."""
    return max(lengths, default=0) * len(lengths)
