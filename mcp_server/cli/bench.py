"""``folder-mcp bench``: quality and speed of search on the user's own folders, against plain grep."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call, settled

if TYPE_CHECKING:
    from indexer.config import Config
    from indexer.folders.registry import KnownFolder
    from mcp_server.cli.bench_run import Asked, BenchResult

DRAWN = "The questions are headings, whose words stand in the answers: that favours words. Give your own: --questions."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--questions",
        metavar="FILE",
        help='your questions, one a line: {"question": "...", "path": "...", "lines": "12-40"} (lines optional); '
        "without it headings are drawn from the files",
    )
    parser.add_argument("--folder", metavar="F", action="append", help="only this folder; may be given more than once")
    parser.add_argument("-n", "--count", metavar="N", type=int, default=50, help="questions to draw at most (50)")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(call: Call) -> int:
    """Measure and print."""
    import anyio  # noqa: PLC0415 - not for --help

    return anyio.run(_bench, call)


async def _bench(call: Call) -> int:
    import anyio  # noqa: PLC0415

    from indexer.types import Scope  # noqa: PLC0415
    from mcp_server.cli.bench_run import BenchResult, measure  # noqa: PLC0415
    from mcp_server.protocol import arguments  # noqa: PLC0415

    args = call.args
    async with call.open() as engine:
        await settled(engine)
        kept = engine.folders()
        roots = arguments.roots_of(args.folder, [each.path for each in kept]) if args.folder else None
        chosen = [each for each in kept if roots is None or each.path in roots]
        texts = await anyio.to_thread.run_sync(_texts, chosen, call.config)
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
        console.document(result)
    else:
        console.say(table(result))
    return 0


def table(result: BenchResult) -> str:
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


def _questions(file: str | None, count: int, texts: list[tuple[str, str]]) -> list[Asked]:
    """Read or draw the questions.

    Raises:
        QueryError: The file cannot be read, or a line of it is no question.
    """
    from indexer.errors import QueryError  # noqa: PLC0415
    from mcp_server.cli.bench_run import from_headings, from_lines  # noqa: PLC0415

    if not file:
        return from_headings(texts, max(1, count))
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the questions in {file} cannot be read: {error}") from error
    return from_lines(lines, file, os.getcwd())


def _texts(folders: list[KnownFolder], config: Config) -> list[tuple[str, str]]:
    """Path and text of every file whose reading is only decoding: what grep could search."""
    from indexer.documents.encoding import decode  # noqa: PLC0415
    from indexer.documents.formats import by_name  # noqa: PLC0415
    from indexer.files.walk import walk  # noqa: PLC0415
    from indexer.indexing.queue import ignore_rules  # noqa: PLC0415
    from indexer.types import File  # noqa: PLC0415

    found = []
    for folder in folders:
        for entry in walk(folder.path, ignore_rules(folder, config)):
            form = by_name(entry.path)
            if not isinstance(entry, File) or form is None or form.family not in ("plain", "table"):
                continue
            try:
                found.append((entry.path, decode(Path(entry.path).read_bytes())))
            except OSError as error:
                console.note(f"{entry.path} cannot be read: {error.strerror}")
    return found
