"""Ask every question in every mode, and say how well and how fast each was answered."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeAlias

import anyio
from pydantic import Field

from indexer.types import Mode, Query, Scope
from mcp_server.bench.grep import grep
from mcp_server.bench.questions import Asked
from mcp_server.engine_port import EnginePort
from mcp_server.protocol.results import Record

DEPTH = 10
"""Hits looked at."""
MODES: tuple[Mode, ...] = ("keyword", "semantic", "hybrid")
Places: TypeAlias = Sequence[tuple[str, str]]


class Row(Record):
    """One way of searching, over all questions."""

    mode: Literal["keyword", "semantic", "hybrid", "grep"]
    mrr: float = Field(description="Mean of 1 / rank of the answer, 0 where it is not among the first ten.")
    recall_at_10: float = Field(description="Share of questions whose answer is among the first ten.")
    p50_ms: float
    p95_ms: float
    note: str = Field(default="", description="What keeps this row from being fair; empty when nothing does.")


class BenchResult(Record):
    """What a run of ``bench`` measured."""

    questions: int
    drawn: bool = Field(description="Questions were drawn from headings, whose words stand in the answers.")
    models: list[str] = Field(description="Models of the folders asked.")
    chunks: int
    files_for_grep: int
    rows: list[Row]


async def measure(
    engine: EnginePort, questions: Sequence[Asked], scope: Scope, files: Sequence[str], said: Callable[[str], None]
) -> list[Row]:
    """Measure every mode, then grep over ``files``.

    Args:
        engine: Answers.
        questions: At least one.
        scope: The folders asked.
        files: Paths that grep reads.
        said: Told what is being done.
    """
    rows = []
    for mode in MODES:
        said(f"{mode}: {len(questions)} questions")
        unserved = 0

        async def ask(asked: Asked, mode: Mode = mode) -> Places:
            nonlocal unserved
            answer = await engine.search(Query(asked.text, DEPTH, 0, scope, mode))
            unserved += answer.semantic.status in ("partial", "unavailable")
            return [(hit.path, hit.locator) for hit in answer.hits]

        if mode != "keyword":  # the first search may have to load the model, which is not what is measured
            await engine.search(Query(questions[0].text, DEPTH, 0, scope, "semantic"))
        row = await _row(mode, questions, ask)
        note = f"{unserved} of {len(questions)} answers saw not all of the text by meaning" if unserved else ""
        rows.append(row.model_copy(update={"note": note}))
    said(f"grep: {len(questions)} questions over {len(files):,} files")

    async def by_grep(asked: Asked) -> Places:
        return await anyio.to_thread.run_sync(grep, asked.text, files, DEPTH)

    rows.append(await _row("grep", questions, by_grep))
    return rows


async def _row(
    mode: Literal["keyword", "semantic", "hybrid", "grep"],
    questions: Sequence[Asked],
    ask: Callable[[Asked], Awaitable[Places]],
) -> Row:
    ranks: list[int] = []
    times: list[float] = []
    for asked in questions:
        began = time.perf_counter()
        places = await ask(asked)
        times.append((time.perf_counter() - began) * 1000)
        ranks.append(rank_of(asked, places))
    return Row(
        mode=mode,
        mrr=round(sum(1 / rank for rank in ranks if rank) / len(ranks), 4),
        recall_at_10=round(sum(rank > 0 for rank in ranks) / len(ranks), 4),
        p50_ms=round(percentile(times, 0.5), 1),
        p95_ms=round(percentile(times, 0.95), 1),
    )


def rank_of(asked: Asked, places: Places) -> int:
    """Rank of the first place that answers, from 1; 0 when none does."""
    return next((rank for rank, place in enumerate(places, 1) if asked.answered_by(*place)), 0)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank, no interpolation)."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]
