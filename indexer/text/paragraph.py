"""The paragraph that a chunk is only a short piece of, as far as other chunks hold it.

A model whose tokenizer does not know a script cuts it nearly into letters, so its window holds a sentence or two and
one paragraph becomes several chunks. Each then has some of the words that a question asks for and none has all of
them. Searched by word, such a piece stands for its paragraph; the figures are in ``docs/search.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from indexer.types import Chunk, Document, Unit

SHORT = 400
"""Characters below which a chunk may be a piece: half of what is sought. In English only the ends of sections are."""
PARAGRAPH = 800
"""Characters that a piece and its surroundings have, as far as the paragraph goes: about what one chunk of the
embedded model holds of English, so that text is searched alike whatever its script."""

_PROSE = frozenset(("text", "markdown", "rst", "org", "latex", "asciidoc"))
# A blank line; a line that ends a sentence; a line before a list, a quotation, a heading or a table.
_BORDER = re.compile(
    r"\n[ \t\r]*\n|(?<=[.!?:;…。！？：；।])[\"'”»)」]?[ \t\r]*\n|\n[ \t]*(?=[-*+•>#|][ \t]|\d{1,3}[.)][ \t]|\|)"
)
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a chunk in its paragraph.

    Attributes:
        texts: Whole neighbouring pieces, or the parts of them that belong to the paragraph; empty for most chunks.
        reach: How far before and after it, in chunks, was looked: what comes, goes or changes there may change
            ``texts``.
    """

    texts: tuple[str, ...] = ()
    reach: int = 0


def surroundings(document: Document, chunks: Sequence[Chunk]) -> list[Surroundings]:
    """For each chunk, what other short chunks hold of its paragraph.

    Args:
        document: What was cut; only prose has paragraphs.
        chunks: Its chunks in order, or some of them: nothing is taken from what stands in none, nor from beyond it.
    """
    found = [Surroundings()] * len(chunks)
    if document.syntax not in _PROSE:
        return found
    for unit, first, spans in _placed(document.units, chunks):
        if unit.kind == "sheet":
            continue
        for place, (start, end) in enumerate(spans):
            if end - start < SHORT:
                found[first + place] = _around(unit.text, spans, place)
    return found


def _placed(units: Sequence[Unit], chunks: Sequence[Chunk]) -> Iterator[tuple[Unit, int, list[_Span]]]:
    """Each unit with the index of its first chunk and where its chunks stand in its text."""
    index = 0
    for unit in units:
        spans: list[_Span] = []
        first, end = index, 0
        while index < len(chunks) and (chunks[index].locator.kind, chunks[index].locator.unit) == (
            unit.kind,
            unit.name,
        ):
            start = unit.text.find(chunks[index].text, end)
            if start < 0:
                break  # two units of one name: it stands in the next
            end = start + len(chunks[index].text)
            spans.append((start, end))
            index += 1
        yield unit, first, spans


def _around(text: str, spans: Sequence[_Span], place: int) -> Surroundings:
    """Neighbours before and after in turn, until there is enough, the paragraph ends, or a chunk is not short."""
    pieces: list[str] = []
    low, high = spans[place]
    down = up = True
    before = after = place
    while (down or up) and high - low < PARAGRAPH:
        if down:
            before -= 1
            reached = _back(text, spans[before], low) if before >= 0 else low
            down = before >= 0 and reached == spans[before][0]
            if before >= 0 and reached < spans[before][1]:
                pieces.append(text[reached : spans[before][1]])
                low = reached
        if up and high - low < PARAGRAPH:
            after += 1
            reached = _on(text, spans[after], high) if after < len(spans) else high
            up = after < len(spans) and reached == spans[after][1]
            if after < len(spans) and reached > spans[after][0]:
                pieces.append(text[spans[after][0] : reached])
                high = reached
    return Surroundings(tuple(pieces), max(place - before, after - place))


def _back(text: str, neighbour: _Span, low: int) -> int:
    """Where the paragraph that goes on at ``low`` begins in the chunk before; that chunk's end when it does not."""
    start, end = neighbour
    borders = [border.end() for border in _BORDER.finditer(text, start, low)]
    if end - start >= SHORT or text[end:low].strip() or (borders and borders[-1] > end):
        return end
    return borders[-1] if borders else start


def _on(text: str, neighbour: _Span, high: int) -> int:
    """Where the paragraph that goes on after ``high`` ends in the chunk after; that chunk's start when it does not."""
    start, end = neighbour
    border = _BORDER.search(text, high - 1, end)
    if end - start >= SHORT or text[high:start].strip() or (border and border.start() < start):
        return start
    return border.start() if border else end
