"""The last failure of a model's load and when it may be tried again: attempts, pauses, breaker. Pure functions.

Attempts are 15 s apart, counted from the end of the failure; after three (or one that trying again cannot mend)
the breaker opens, and half-opens after five minutes: the next who asks gets one attempt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from indexer.model.embedder import ModelSpec
from indexer.model.failure import Failure
from indexer.timing import BREAKER_S, LOAD_RETRY_S

ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands between a model and the slot.

    Attributes:
        spec: What failed to load.
        failure: Why.
        at: When, wall clock.
        attempt: Which attempt of the series failed, from 1.
        not_before: Loop time of the next attempt; infinite when only a restart helps.
        open: Whether the series is over: nothing is tried until somebody asks after ``not_before``.
    """

    spec: ModelSpec
    failure: Failure
    at: float
    attempt: int
    not_before: float
    open: bool


def after_failure(previous: Trouble | None, spec: ModelSpec, failure: Failure, now: float, at: float) -> Trouble:
    """The trouble after an attempt failed at loop time ``now`` (wall clock ``at``).

    A failed attempt through a half-open breaker opens it again at once.
    """
    attempt = previous.attempt + 1 if previous is not None and not previous.open else 1
    half_opened = previous is not None and previous.open and failure.retryable
    if half_opened:
        attempt = ATTEMPTS
    over = not failure.retryable or attempt >= ATTEMPTS
    pause = BREAKER_S if over else max(LOAD_RETRY_S, failure.retry_after or 0.0)
    if failure.code == "device_lost":
        pause = math.inf  # the device's context is gone for this process
    return Trouble(spec, failure, at, attempt, now + pause, over)


def forgiven(trouble: Trouble, now: float) -> Trouble:
    """The trouble after a manual retry: may be tried now, as the first attempt of a new series."""
    return replace(trouble, attempt=0, not_before=now, open=False)


def while_orphaned(trouble: Trouble) -> Trouble:
    """The trouble of a load that outlived its limit: nothing is tried while it still runs."""
    return replace(trouble, not_before=math.inf)


def after_orphan(trouble: Trouble, now: float) -> Trouble:
    """The trouble once that load has ended without a model: the pause counts from its end."""
    return replace(trouble, not_before=now + (BREAKER_S if trouble.open else LOAD_RETRY_S))
