"""Ask every question in every mode, and say how well and how fast each was answered."""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
from pydantic import Field

from indexer.documents.encoding import decode
from indexer.documents.formats import by_name
from indexer.errors import QueryError
from indexer.text.structure import JOINT, segments
from indexer.types import Locator, Mode, Query, Scope
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


# Questions ----------------------------------------------------------------------------------------------------------
# Questions with known answers: from a file the user wrote, or drawn from the headings of the texts.

LEAST_BODY = 200
"""Characters below a heading from which it has something to answer with."""
SHORTEST, LONGEST = 8, 120
"""Characters of a heading that makes a question."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the place that answers it.

    Attributes:
        text: The question.
        path: Absolute path of the file.
        first: First line of the answer, 1-based; 0 when the whole file answers.
        last: Its last line.
    """

    text: str
    path: str
    first: int = 0
    last: int = 0

    def answered_by(self, path: str, locator: str) -> bool:
        """Whether a hit shows the answer: the same file, and lines in common where both have them."""
        if path != self.path:
            return False
        try:
            place = Locator.parse(locator)
        except QueryError:
            return not self.first
        return not self.first or place.kind != "lines" or (place.start <= self.last and self.first <= place.end)


def from_lines(lines: Iterable[str], source: str, base: str) -> list[Asked]:
    """Read questions, one JSON object a line: ``{"question": ..., "path": ..., "lines": "12-40"}``, lines optional.

    Args:
        lines: The file's lines; empty ones are passed over.
        source: The file's name, for errors.
        base: Directory that relative paths count from.

    Raises:
        QueryError: A line is none; says which.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, path = given["question"].strip(), os.path.join(base, os.path.expanduser(given["path"]))
            place = Locator.parse(str(given.get("lines") or "1"))
            span = (place.start, place.end) if given.get("lines") else (0, 0)
        except (ValueError, KeyError, TypeError, AttributeError, QueryError):
            raise QueryError(
                f'{source}, line {number}: write {{"question": "...", "path": "...", "lines": "12-40"}}; '
                "lines may be left out"
            ) from None
        found.append(Asked(text, os.path.realpath(path), *span))
    return [asked for asked in found if asked.text]


def from_headings(texts: Sequence[tuple[str, str]], count: int, seed: int = 0) -> list[Asked]:
    """Draw questions: a heading that stands once, answered by what stands below it.

    Args:
        texts: Path and text of each file.
        count: Questions at most.
        seed: Equal seeds draw equal questions from equal texts.
    """
    found: dict[str, list[Asked]] = {}
    for path, text in texts:
        form = by_name(path)
        starts = segments(text, form.syntax) if form is not None and form.family == "plain" else ()
        for segment in starts:
            title = segment.heading.rsplit(JOINT, 1)[-1].strip()
            body = text[segment.start : segment.end]
            if SHORTEST <= len(title) <= LONGEST and len(body.strip()) >= LEAST_BODY + len(title):
                first = text.count("\n", 0, segment.start) + 1
                asked = Asked(title, path, first, first + body.rstrip().count("\n"))
                found.setdefault(title.casefold(), []).append(asked)
    single = [same[0] for same in found.values() if len(same) == 1]
    return random.Random(seed).sample(single, min(count, len(single)))  # noqa: S311 - a sample, not a secret


# Grep ---------------------------------------------------------------------------------------------------------------
# What a person would do without an index: search the files for any of the words, best places first.

BLOCK = 40
"""Lines of a place: about what an editor shows around a match."""
_WORD = re.compile(r"\w{2,}")


def grep(question: str, paths: Sequence[str], top_k: int) -> list[tuple[str, str]]:
    """Return path and locator of the best places: most different words of the question, then most matches.

    Reads the files anew, as grep does; case is ignored. Places are blocks of ``BLOCK`` lines.
    """
    words = sorted({word.casefold() for word in _WORD.findall(question)}, key=len, reverse=True)
    if not words:
        return []
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    found: list[tuple[int, int, str, int]] = []
    for path in paths:
        try:
            text = decode(Path(path).read_bytes())
        except OSError:  # gone, or not ours to read: grep says so and goes on
            continue
        blocks: dict[int, list[str]] = {}
        line, at = 0, 0
        for match in pattern.finditer(text):
            line, at = line + text.count("\n", at, match.start()), match.start()
            blocks.setdefault(line // BLOCK, []).append(match[0].casefold())
        found += [(-len(set(hits)), -len(hits), path, block) for block, hits in blocks.items()]
    best = sorted(found)[:top_k]
    return [(path, str(Locator("lines", "", block * BLOCK + 1, (block + 1) * BLOCK))) for _, _, path, block in best]
