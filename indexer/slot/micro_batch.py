"""How many texts go to the model at once: as many as fit a time, so that a waiting query is never far from its turn.

A padded batch costs about ``longest * count`` tokens (the batches of text-embeddings-inference are counted so), and
tokens per second differ by a factor of a thousand between machines and models (a fixed 16 x 256 took 19-31 s for a
base model on two cores), so the budget is measured, not configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SMOOTHING: Final = 0.3
"""Weight of the newest measurement in the moving average."""
FIRST_BUDGET: Final = 256
"""Padded tokens before anything was measured: a fraction of a second on a slow CPU."""
GROWTH: Final = 4.0
"""A budget is at most this many times the largest batch measured: no leap on the strength of one tiny batch."""
LARGEST_BUDGET: Final = 65_536
"""Padded tokens no batch exceeds, whatever the speed: bounds the memory of one batch."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured of one loaded model.

    Attributes:
        tokens_per_s: Moving average of padded tokens a second, 0.0 before the first measurement.
        largest: Most padded tokens in a batch so far.
        ceiling: Padded tokens that did not fit the memory; batches stay below. 0 when none was met.
        batch_s: Moving average of a batch's seconds, 0.0 before the first.
    """

    tokens_per_s: float = 0.0
    largest: int = 0
    ceiling: int = 0
    batch_s: float = 0.0


def measured(pace: Pace, tokens: int, seconds: float) -> Pace:
    """The pace after one more batch of ``tokens`` padded tokens that took ``seconds``."""
    if tokens <= 0 or seconds <= 0.0:
        return pace
    speed = tokens / seconds
    if pace.tokens_per_s:
        speed = SMOOTHING * speed + (1 - SMOOTHING) * pace.tokens_per_s
    lasted = SMOOTHING * seconds + (1 - SMOOTHING) * pace.batch_s if pace.batch_s else seconds
    return Pace(speed, max(pace.largest, tokens), pace.ceiling, lasted)


def overflowed(pace: Pace, tokens: int) -> Pace:
    """The pace after a batch of ``tokens`` padded tokens ran out of memory: never more than half of it again."""
    ceiling = max(1, tokens // 2)
    ceiling = min(ceiling, pace.ceiling) if pace.ceiling else ceiling
    return Pace(pace.tokens_per_s, min(pace.largest, ceiling), ceiling, pace.batch_s)


def budget(pace: Pace, target_s: float) -> int:
    """Padded tokens of the next batch so that it takes about ``target_s`` seconds; at least 1."""
    wished = float(FIRST_BUDGET)
    if pace.tokens_per_s:
        wished = min(pace.tokens_per_s * target_s, max(pace.largest * GROWTH, FIRST_BUDGET))
    limit = min(LARGEST_BUDGET, pace.ceiling or LARGEST_BUDGET)
    return max(1, min(int(wished), limit))


def take(lengths: Sequence[int], tokens: int) -> int:
    """How many of the next texts make one batch within a budget; at least one when there is one.

    Args:
        lengths: Tokens of the next texts, in the order they will be embedded (sorted by length wastes least).
        tokens: Budget of padded tokens.
    """
    longest = 0
    for count, length in enumerate(lengths):
        longest = max(longest, length)
        if count and longest * (count + 1) > tokens:
            return count
    return len(lengths)


def padded(lengths: Sequence[int]) -> int:
    """Tokens a padded batch of these lengths costs."""
    return max(lengths, default=0) * len(lengths)
