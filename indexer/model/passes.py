"""Forward passes: which texts share one, how many run at once, and on how many cores each.

A pass on all cores makes its threads wait for each other after every step; passes side by side, each on a core of
its own, never wait. With the embedded model on two cores that is a quarter to a third more texts a second and a fifth
less CPU a text (docs/decisions/0009). But a query is a single pass, and on one core takes longer: 9 ms instead of 6.
So only small models work side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

PADDED_TOKENS = 384
"""Tokens, padding included, of one pass.

Measured with the embedded model on texts of 20 to 254 tokens: from 256 to 512 there is no difference, 1,024 are a
tenth slower, 2,048 a fifth. Small passes also pad less and need less memory.
"""
SMALL = 25_000_000
"""Weights of its layers up to which a model works side by side: twelve layers of 384.

The next size in use has 85 million: eight times the embedded model's, whose query takes 9 ms on one core.
"""
MOST = 8
"""Passes at once, at most, to bound the memory: the embedded model alone peaks at 197 MiB with one, 226 with two."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How a model makes its passes.

    Attributes:
        tokens: Padded tokens of one; a single text may have more.
        at_once: How many run side by side.
        threads: Threads of each, 0 for one a core.
    """

    tokens: int = PADDED_TOKENS
    at_once: int = 1
    threads: int = 0

    @classmethod
    def of(cls, layer_weights: int, one_by_one: bool) -> Passes:
        """What suits a model.

        Args:
            layer_weights: Weights that every token meets, 0 when unknown.
            one_by_one: Each text must have a pass of its own.
        """
        tokens = 1 if one_by_one else PADDED_TOKENS
        return cls(tokens, cores(), 1) if 0 < layer_weights <= SMALL else cls(tokens)

    def run(self, forward: Callable[[list[int]], None], lengths: Sequence[int]) -> None:
        """Call ``forward`` with the indices of each pass's texts; returns when all are done.

        Args:
            forward: Runs one pass and keeps its result; from several threads when passes run side by side.
            lengths: Tokens of each text.

        Raises:
            Exception: What ``forward`` raised first.
        """
        cut = list(batches(lengths, self.tokens, self.at_once))
        if min(len(cut), self.at_once) <= 1:
            for batch in cut:
                forward(batch)
            return
        with ThreadPoolExecutor(self.at_once, "model-pass") as threads:
            for _ in threads.map(forward, cut):
                pass


def batches(lengths: Sequence[int], budget: int, at_once: int = 1) -> Iterator[list[int]]:
    """Yield indices of texts, longest first, in batches of at most ``budget`` padded tokens, at least one text.

    Where several are worked on at once, none has more than its share of what is left, so that all end at about the
    same time: guided self-scheduling (Polychronopoulos and Kuck 1987).
    """
    order, left = sorted(range(len(lengths)), key=lambda i: -lengths[i]), sum(lengths)
    while order:
        share = budget if at_once == 1 else min(budget, left // at_once)
        n = max(1, share // max(1, lengths[order[0]]))
        yield order[:n]
        left -= sum(lengths[i] for i in order[:n])
        order = order[n:]


def cores() -> int:
    """Cores this process may use, at most ``MOST``; virtual ones that share a core gain nothing."""
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(psutil.cpu_count(logical=False) or MOST, allowed or 1, MOST)
