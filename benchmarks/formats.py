"""How well each format is read and cited: ``python benchmarks/formats.py DIRECTORY [--tokenizer tokenizer.json]``.

DIRECTORY holds documents and a ``MANIFEST.tsv`` with the columns ``file``, ``kind`` (good, odd, gen, scan, encrypted),
``expected_text`` and ``locator_or_expectation`` (``p3``, ``slide 2``, ``sheet Budget``, ``cell6``, ``L12``, or words).

A hit is an expected text that is found by its words in what a chunk's locator gives when the document is read again,
as ``read`` does it; where the manifest names a page, slide, sheet, cell or line, the locator must say the same.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import anyio

from indexer.documents.pool import open_parsers
from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.chunk import TokenCounter, chunk
from indexer.text.structure import line_span
from indexer.types import Chunk, Document, File


@dataclass
class Row:
    """One format's figures."""

    tried: int = 0
    indexed: int = 0
    crashed: int = 0
    asked: int = 0
    hits: int = 0
    size: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)


class Words:
    """A stand-in for a model's tokenizer: four characters of a word a token."""

    def starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in re.finditer(r"\w{1,4}|[^\w\s]", text)]


class Model:
    """A tokenizer.json."""

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(path)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def starts(self, text: str) -> Sequence[int]:
        return [start for start, _ in self._tokenizer.encode(text, add_special_tokens=False).offsets]


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def cited(document: Document, chunks: Sequence[Chunk], quote: str, place: str) -> str:
    """Why the quote is not found where it should be; empty when it is."""
    wanted = words(quote)
    if wanted not in words("\n".join(unit.text for unit in document.units)):
        return "text not found"
    texts = {(unit.kind, unit.name): unit.text for unit in document.units}
    problem = "no chunk locates it"
    for piece, after in zip_longest(chunks, chunks[1:]):
        # A quote may begin in one chunk and end in the next, and so in the next section, cell or page.
        last = after or piece
        text = texts[piece.locator.kind, piece.locator.unit]
        same = (last.locator.kind, last.locator.unit) == (piece.locator.kind, piece.locator.unit)
        shown = line_span(text, piece.locator.start, last.locator.end or piece.locator.end) if same else ""
        if not same:
            begun = line_span(text, piece.locator.start, piece.locator.end)
            ended = line_span(texts[last.locator.kind, last.locator.unit], last.locator.start, last.locator.end)
            shown = f"{begun}\n{ended}"
        exact = piece.text in line_span(text, piece.locator.start, piece.locator.end)
        if exact and wanted in words(shown) and wanted.split()[0] in words(piece.text):
            problem = misplaced(piece, last, place)
            if not problem:
                return ""
    return problem


def misplaced(piece: Chunk, last: Chunk, place: str) -> str:
    """Whether the locators contradict the manifest."""
    at = piece.locator
    said = re.match(r"(p|slide |sheet |cell|L)(.*?)(?::.*)?(?: \[.*)?$", place)
    if said is None or not place:
        return ""
    kind, where = said[1].strip(), said[2].strip()
    if kind == "L" and at.kind in ("lines", "sheet"):
        end = last.locator.end or at.end or 1 << 30
        return "" if (at.start or 1) <= int(where) <= end else f"at {at}, not line {where}"
    same = {"p": "page", "slide": "slide", "sheet": "sheet", "cell": "cell"}.get(kind)
    return "" if same != at.kind or at.unit.startswith(where) else f"at {at}, not {kind} {where}"


async def measure(directory: Path, tokens: TokenCounter, limit: int) -> dict[str, Row]:
    rows: dict[str, Row] = defaultdict(Row)
    with (directory / "MANIFEST.tsv").open(encoding="utf-8", newline="") as stream:
        entries = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    async with open_parsers() as parsers:
        for entry in entries:
            path = directory / entry["file"]
            row = rows[path.suffix.lstrip(".") or "none"]
            status = path.stat()
            restarts = parsers.status().restarts
            row.tried, row.size, began = row.tried + 1, row.size + status.st_size, time.perf_counter()
            try:
                parsed = await parsers.parse(File(str(path), str(directory), status.st_size, status.st_mtime_ns))
                chunks = chunk(parsed.document, tokens, limit)
            except ParseFailed as error:
                word = "skipped" if isinstance(error, ParseSkipped) else "failed"
                row.reasons[f"{word}: {str(error)[:70]}"] += 1
                continue
            finally:
                row.seconds += time.perf_counter() - began
                row.crashed += parsers.status().restarts - restarts
            row.indexed += 1
            if words(entry["expected_text"]):
                row.asked += 1
                problem = cited(parsed.document, chunks, entry["expected_text"], entry["locator_or_expectation"])
                row.hits += not problem
                if problem:
                    row.missed.append(f"{entry['file']}: {problem}")
    return rows


def show(rows: dict[str, Row]) -> None:
    print("| format | tried | indexed | refused | crashed | hit at locator | MB/s |\n|---|---|---|---|---|---|---|")
    total = Row()
    for name, row in [*sorted(rows.items()), ("all", total)]:
        if row is not total:
            for key in ("tried", "indexed", "crashed", "asked", "hits", "size", "seconds"):
                setattr(total, key, getattr(total, key) + getattr(row, key))
        rate = f"{row.hits}/{row.asked}"
        speed = row.size / 1e6 / max(row.seconds, 1e-9)
        refused = row.tried - row.indexed
        print(f"| {name} | {row.tried} | {row.indexed} | {refused} | {row.crashed} | {rate} | {speed:.2f} |")
    print()
    for name, row in sorted(rows.items()):
        for reason, count in row.reasons.items():
            print(f"{name}: {count} x {reason}")
        for missed in row.missed:
            print(f"{name}: missed {missed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--tokenizer", help="a tokenizer.json; without it words are cut into pieces of four characters"
    )
    parser.add_argument("--limit", type=int, default=254, help="tokens of a passage")
    chosen = parser.parse_args()
    if not (chosen.directory / "MANIFEST.tsv").is_file():
        sys.exit(f"{chosen.directory} has no MANIFEST.tsv")
    tokens: TokenCounter = Model(chosen.tokenizer) if chosen.tokenizer else Words()
    show(anyio.run(measure, chosen.directory.absolute(), tokens, chosen.limit))


if __name__ == "__main__":
    main()
