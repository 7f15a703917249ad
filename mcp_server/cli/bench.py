"""``bench``: quality and speed of search on the user's own folders and questions, against plain grep."""

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

from indexer.config import Config
from indexer.documents.encoding import decode
from indexer.documents.formats import by_name
from indexer.errors import QueryError
from indexer.files.open_inside import open_file
from indexer.files.walk import walk
from indexer.folders.registry import KnownFolder
from indexer.indexing.queue import ignore_rules
from indexer.text.structure import JOINT, segments
from indexer.types import File, Locator, Mode, Query, Scope
from mcp_server.cli import console
from mcp_server.cli.call import Call, wait_until_open
from mcp_server.engine_port import EnginePort
from mcp_server.protocol import arguments
from mcp_server.protocol.results import Record

DRAWN = "The questions are headings, whose words stand in the answers: that favours words. Give your own: --questions."
DEPTH = 10
"""Hits that are compared with the answer."""
MODES: tuple[Mode, ...] = ("keyword", "semantic", "hybrid")
Passages: TypeAlias = Sequence[tuple[str, str]]
"""Path and locator of each passage found, best first."""


def run_bench(call: Call) -> int:
    """``folder-mcp bench``: measure, and print a table."""
    return anyio.run(_bench, call)


async def _bench(call: Call) -> int:
    args = call.args
    async with call.open() as engine:
        await wait_until_open(engine)
        folders = engine.folders()
        roots = arguments.roots_of(args.folder, [each.path for each in folders]) if args.folder else None
        chosen = [each for each in folders if roots is None or each.path in roots]
        texts = await anyio.to_thread.run_sync(_read_texts, chosen, call.config)
        questions = await anyio.to_thread.run_sync(_questions, args.questions, args.count, texts)
        if not questions:
            console.complain("there is nothing to ask: no headings with text below them; give --questions FILE")
            return 1
        files = [path for path, _ in texts]
        rows = await measure(engine, questions, Scope(roots), files, console.note)
        status = [each for each in engine.status().folders if roots is None or each.path in roots]
    result = BenchResult(
        questions=len(questions),
        drawn=not args.questions,
        models=sorted({each.model for each in status}),
        chunks=sum(each.chunks for each in status),
        files_for_grep=len(files),
        rows=rows,
    )
    if args.json:
        console.json_document(result)
    else:
        console.say(_table(result))
    return 0


def _table(result: BenchResult) -> str:
    """Return the result for people."""
    lines = [
        f"{result.questions} questions, {result.chunks:,} chunks, {result.files_for_grep:,} files for grep; "
        f"model: {', '.join(result.models)}",
        "",
        f"{'mode':<10}{'MRR':>7}{'recall@10':>11}{'p50 ms':>9}{'p95 ms':>9}",
    ]
    for row in result.rows:
        figures = f"{row.mrr:>7.3f}{row.recall_at_10:>11.3f}{row.p50_ms:>9.0f}{row.p95_ms:>9.0f}"
        lines.append(f"{row.mode:<10}{figures}" + (f"  ({row.note})" if row.note else ""))
    return "\n".join([*lines, "", DRAWN] if result.drawn else lines)


def _questions(file: str | None, count: int, texts: list[tuple[str, str]]) -> list[Question]:
    """Read or draw the questions.

    Raises:
        QueryError: The file cannot be read, or a line of it is no question.
    """
    if not file:
        return from_headings(texts, max(1, count))
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the questions in {file} cannot be read: {error}") from error
    return from_lines(lines, file, os.getcwd())


def _read_texts(folders: list[KnownFolder], config: Config) -> list[tuple[str, str]]:
    """Return path and text of every file that needs no parser, only decoding: what grep could search."""
    found = []
    for folder in folders:
        for entry in walk(folder.path, ignore_rules(folder, config)):
            format_ = by_name(entry.path)
            if not isinstance(entry, File) or format_ is None or format_.family not in ("plain", "table"):
                continue
            try:
                with open_file(entry.path, entry.folder) as stream:
                    found.append((entry.path, decode(stream.readall())))
            except OSError as error:
                console.note(f"{entry.path} cannot be read: {error.strerror}")
    return found


# Measuring ----------------------------------------------------------------------------------------------------------


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
    engine: EnginePort,
    questions: Sequence[Question],
    scope: Scope,
    files: Sequence[str],
    report: Callable[[str], None],
) -> list[Row]:
    """Measure every mode, then grep over ``files``.

    Args:
        engine: Answers the queries.
        questions: At least one.
        scope: The folders to search.
        files: Paths that grep reads.
        report: Called with what is being done, in words.
    """
    rows = []
    for mode in MODES:
        report(f"{mode}: {len(questions)} questions")
        incomplete = 0

        async def ask(question: Question, mode: Mode = mode) -> Passages:
            nonlocal incomplete
            answer = await engine.search(Query(question.text, DEPTH, 0, scope, mode))
            incomplete += answer.semantic.status in ("partial", "unavailable")
            return [(hit.path, hit.locator) for hit in answer.hits]

        if mode != "keyword":  # load the model first: that time is not measured
            await engine.search(Query(questions[0].text, DEPTH, 0, scope, "semantic"))
        row = await _row(mode, questions, ask)
        note = f"{incomplete} of {len(questions)} answers saw not all of the text by meaning" if incomplete else ""
        rows.append(row.model_copy(update={"note": note}))
    report(f"grep: {len(questions)} questions over {len(files):,} files")

    async def by_grep(question: Question) -> Passages:
        return await anyio.to_thread.run_sync(grep, question.text, files, DEPTH)

    rows.append(await _row("grep", questions, by_grep))
    return rows


async def _row(
    mode: Literal["keyword", "semantic", "hybrid", "grep"],
    questions: Sequence[Question],
    ask: Callable[[Question], Awaitable[Passages]],
) -> Row:
    ranks: list[int] = []
    times: list[float] = []
    for question in questions:
        began = time.perf_counter()
        passages = await ask(question)
        times.append((time.perf_counter() - began) * 1000)
        ranks.append(rank_of(question, passages))
    return Row(
        mode=mode,
        mrr=round(sum(1 / rank for rank in ranks if rank) / len(ranks), 4),
        recall_at_10=round(sum(rank > 0 for rank in ranks) / len(ranks), 4),
        p50_ms=round(percentile(times, 0.5), 1),
        p95_ms=round(percentile(times, 0.95), 1),
    )


def rank_of(question: Question, passages: Passages) -> int:
    """Return the rank of the first passage that answers, from 1; 0 when none does."""
    return next((rank for rank, passage in enumerate(passages, 1) if question.answered_by(*passage)), 0)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie (nearest rank, no interpolation)."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


# Questions ----------------------------------------------------------------------------------------------------------

MIN_BODY = 200
"""Characters that the text below a heading must have to count as an answer."""
MIN_HEADING, MAX_HEADING = 8, 120
"""Characters of a heading that makes a question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where its answer stands.

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
            found = Locator.parse(locator)
        except QueryError:
            return not self.first
        return not self.first or found.kind != "lines" or (found.start <= self.last and self.first <= found.end)


def from_lines(lines: Iterable[str], source: str, base: str) -> list[Question]:
    """Read questions, one JSON object a line: ``{"question": ..., "path": ..., "lines": "12-40"}``, lines optional.

    Args:
        lines: The file's lines; empty ones are skipped.
        source: The file's name, for errors.
        base: Directory that relative paths start from.

    Raises:
        QueryError: A line is not a question; the message says which.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, path = given["question"].strip(), os.path.join(base, os.path.expanduser(given["path"]))
            answer = Locator.parse(str(given.get("lines") or "1"))
            span = (answer.start, answer.end) if given.get("lines") else (0, 0)
        except (ValueError, KeyError, TypeError, AttributeError, QueryError):
            raise QueryError(
                f'{source}, line {number}: write {{"question": "...", "path": "...", "lines": "12-40"}}; '
                "lines may be left out"
            ) from None
        found.append(Question(text, os.path.realpath(path), *span))
    return [question for question in found if question.text]


def from_headings(texts: Sequence[tuple[str, str]], count: int, seed: int = 0) -> list[Question]:
    """Draw questions: headings that occur once, each answered by the text below it.

    Args:
        texts: Path and text of each file.
        count: Questions at most.
        seed: Equal seeds draw equal questions from equal texts.
    """
    found: dict[str, list[Question]] = {}
    for path, text in texts:
        format_ = by_name(path)
        starts = segments(text, format_.syntax) if format_ is not None and format_.family == "plain" else ()
        for segment in starts:
            title = segment.heading.rsplit(JOINT, 1)[-1].strip()
            body = text[segment.start : segment.end]
            if MIN_HEADING <= len(title) <= MAX_HEADING and len(body.strip()) >= MIN_BODY + len(title):
                first = text.count("\n", 0, segment.start) + 1
                question = Question(title, path, first, first + body.rstrip().count("\n"))
                found.setdefault(title.casefold(), []).append(question)
    single = [same[0] for same in found.values() if len(same) == 1]
    return random.Random(seed).sample(single, min(count, len(single)))  # noqa: S311 - a sample, not a secret


# Grep ---------------------------------------------------------------------------------------------------------------

BLOCK = 40
"""Lines of a passage: about what an editor shows around a match."""
_WORD = re.compile(r"\w{2,}")


def grep(question: str, paths: Sequence[str], top_k: int) -> list[tuple[str, str]]:
    """Search the files for any word of the question, as one would without an index.

    Returns path and locator of the best passages: those with most different words of the question, then most matches.
    Reads the files again, as grep does; case is ignored. A passage is a block of ``BLOCK`` lines.
    """
    words = sorted({word.casefold() for word in _WORD.findall(question)}, key=len, reverse=True)
    if not words:
        return []
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    found: list[tuple[int, int, str, int]] = []
    for path in paths:
        try:
            with open_file(path, os.path.dirname(path)) as stream:
                text = decode(stream.readall())
        except OSError:  # deleted or not readable: grep goes on too
            continue
        blocks: dict[int, list[str]] = {}
        line, at = 0, 0
        for match in pattern.finditer(text):
            line, at = line + text.count("\n", at, match.start()), match.start()
            blocks.setdefault(line // BLOCK, []).append(match[0].casefold())
        found += [(-len(set(hits)), -len(hits), path, block) for block, hits in blocks.items()]
    best = sorted(found)[:top_k]
    return [(path, str(Locator("lines", "", block * BLOCK + 1, (block + 1) * BLOCK))) for _, _, path, block in best]
