"""Document to chunks: exact slices of its units that fit the model's window, divided at the boundaries of the text.

The text is divided into segments, one for each heading, function or class, so that an edit moves boundaries in its own
segment only. One pass of the model's tokenizer over each segment turns a limit in tokens into a limit in characters;
the splitter works in characters (30 to 100 times faster than counting tokens), and a part that is still too long is
split again. Also here: the paragraph around a short chunk.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import floor, log
from typing import Any, Protocol

from indexer.text.structure import (
    JOINT,
    LANGUAGES,
    Segment,
    code_segments,
    grammar,
    header_of,
    line_of,
    line_starts,
    segments,
)
from indexer.types import Chunk, Document, Locator, Unit

CHUNKER = "chunk/1"
"""Version of these rules: any change that moves a boundary or a heading raises it."""

TARGET_SHARE = 0.7
"""Target length of a chunk as a share of the model's window; the rest lets a paragraph be added before splitting."""
MAX_TARGET = 400
"""Largest target, tokens, whatever the window: one vector represents few ideas, and answers quote whole chunks."""
SMALL_SHARE = 1 / 3
"""Share of the target below which a chunk is joined to a neighbour under the same heading."""
HEADING_SHARE = 1 / 4
"""Largest share of the window for the heading path."""
DATA_CHARS = 5_000_000
"""Characters beyond which a text is data, not prose: split by lines, ignoring structure."""
_INDENT = 200
"""Characters of indentation kept at most (looking back without bound costs the square of the text)."""
LONG_LINE = 20_000
"""Characters of a line beyond which a text is data: splitters take seconds per megabyte on such lines."""


class TokenCounter(Protocol):
    """The part of the model's tokenizer that chunking needs."""

    def starts(self, text: str) -> Sequence[int]:
        """Character offset of the first character of each token of ``text``, ascending, no special tokens."""
        ...


def chunk(document: Document, tokens: TokenCounter, limit: int) -> tuple[Chunk, ...]:
    """Divide a document into chunks whose passage has at most ``limit`` tokens; pure and deterministic.

    Args:
        document: The parsed document.
        tokens: The tokenizer of the model that will embed the chunks.
        limit: Tokens of a passage (heading, newline, text) that the model sees, special tokens not counted; at
            least 16.

    Returns:
        Chunks in reading order. Every character that is not white space is in exactly one of them.
    """
    if limit < 16:
        raise ValueError(f"a limit of {limit} tokens leaves no room for text; 16 is the least")
    chunks: list[Chunk] = []
    for unit in document.units:
        pieces = list(_chunk_segments(unit, document.syntax, tokens, limit))
        starts = line_starts(unit.text)
        for piece in pieces:
            locator = _locator(unit, piece, starts, whole=len(pieces) == 1)
            chunks.append(Chunk(len(chunks), unit.text[piece.start : piece.end], piece.heading, locator))
    return tuple(chunks)


def _chunk_segments(unit: Unit, syntax: str, tokens: TokenCounter, limit: int) -> Iterator[Segment]:
    """The chunks of one unit as segments with their final heading."""
    if not unit.text.strip():
        return
    target = max(1, min(int(limit * TARGET_SHARE), MAX_TARGET))
    maximum = min(limit, target * 5 // 4)
    data = len(unit.text) > DATA_CHARS or _has_long_line(unit.text)
    found: list[Span] = []
    for segment in _outline_segments(unit, syntax, data):
        found += split(unit.text, segment, "" if data else syntax, tokens, target, maximum)
    found = [span for span in found if not unit.text[span.start : span.end].isspace()]
    # Within a section first: the line of a heading belongs to the text below it, not to the section before.
    within = _merge_small(found, target, maximum, across=False)
    for span in _merge_small(within, target, maximum, across=True):
        yield from _fit(unit.text, span, tokens, limit)


def _outline_segments(unit: Unit, syntax: str, data: bool) -> Sequence[Segment]:
    """Segments of a unit with full heading paths; in a sheet the header row is the heading of the rows below it."""
    text = unit.text
    if unit.kind == "sheet":
        name = unit.heading or unit.name
        header, below = header_of(text)
        if not header or below >= len(text):
            return (Segment(0, len(text), name),)
        return (Segment(0, below, name), Segment(below, len(text), _join_headings(name, header)))
    if data:
        return (Segment(0, len(text), unit.heading),)
    found = code_segments(text, syntax) if syntax in LANGUAGES else segments(text, syntax)
    prefix = unit.heading
    first = found[0].heading or (found[1].heading if len(found) > 1 and not text[: found[0].end].strip() else "")
    if first and prefix.endswith(first):
        # The unit is named by its own first heading: do not repeat it.
        prefix = prefix[: -len(first)].removesuffix(JOINT)
    return [Segment(s.start, s.end, _join_headings(prefix, s.heading)) for s in found]


def _join_headings(prefix: str, heading: str) -> str:
    return JOINT.join(part for part in (prefix, heading) if part)


def _has_long_line(text: str) -> bool:
    last = -1
    while (end := text.find("\n", last + 1)) >= 0:
        if end - last > LONG_LINE:
            return True
        last = end
    return len(text) - last > LONG_LINE


def _merge_small(spans: Iterable[Span], target: int, maximum: int, *, across: bool) -> Iterator[Span]:
    """Join a small span to its neighbour when both have the same heading (up to ``maximum`` tokens).

    ``across`` joins small sections too, when one contains the other or both have one parent (up to ``target``).
    """
    small, previous = target * SMALL_SHARE, None
    for span in spans:
        if previous is None:
            previous = span
            continue
        same = previous.heading == span.heading
        shared = previous.heading if same else _shared_heading(previous, span, small) if across else None
        fits = (
            previous.tokens + span.tokens <= (maximum if same else target)
            and min(previous.tokens, span.tokens) < small
        )
        if fits and shared is not None:
            previous = Span(previous.start, span.end, shared, previous.tokens + span.tokens)
        else:
            yield previous
            previous = span
    if previous is not None:
        yield previous


def _shared_heading(a: Span, b: Span, small: float) -> str | None:
    """The heading two neighbours can share, None when they must stay apart.

    They share it if one section contains the other, or both are small and have one parent (their titles stay in the
    text).
    """
    if a.heading and b.heading.startswith(a.heading + JOINT):
        return a.heading
    if a.tokens >= small and b.tokens >= small:
        return None
    one, two = a.heading.split(JOINT), b.heading.split(JOINT)
    common = [x for x, y in zip(one, two, strict=False) if x == y]
    if one[: len(common)] != common or two[: len(common)] != common:
        return None
    return JOINT.join(common) if common or not a.heading or max(a.tokens, b.tokens) < small else None


def _fit(text: str, span: Span, tokens: TokenCounter, limit: int) -> Iterator[Segment]:
    """Trim a span and count the tokens of its passage, which differ at the edges from those counted in context.

    The second count is skipped where it cannot matter: an edge between words changes a few tokens at most (a word
    marker, a merged space), and an eighth of the window is free. An edge inside a word can change any number.
    """
    start, end = _trim(text, span.start, span.end)
    if start >= end:
        return
    heading = _fit_heading(span.heading, tokens, limit)
    body = text[start:end]
    passage = f"{heading}\n{body}" if heading else body
    count = span.tokens + len(tokens.starts(heading)) if heading else span.tokens
    if not (span.tokens and count + limit // 8 <= limit and _between_words(text, start, end)):
        count = len(tokens.starts(passage))
    if count <= limit:
        yield Segment(start, end, heading)
        return
    room = limit - (count - len(tokens.starts(body)) if heading else 0)
    for piece in split_by_tokens(text, start, end, tokens, max(1, min(room * 4 // 5, (count - 1) // 2))):
        yield from _fit(text, Span(piece[0], piece[1], span.heading, 0), tokens, limit)


def _between_words(text: str, start: int, end: int) -> bool:
    """Whether a span begins and ends at white space or at the text's own ends."""
    return (start == 0 or text[start - 1].isspace() or text[start].isspace()) and (
        end == len(text) or text[end].isspace()
    )


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at both ends, but with the indentation of the first line."""
    body = text[start:end]
    first, last = start + len(body) - len(body.lstrip()), start + len(body.rstrip())
    near = max(0, first - _INDENT)
    line = max(near, text.rfind("\n", near, first) + 1)
    return (line if text[line:first].isspace() else first), last


def _fit_heading(heading: str, tokens: TokenCounter, limit: int) -> str:
    """Shorten a heading path to its share of the window: drop outer parts first, then the end of the innermost."""
    room = max(1, int(limit * HEADING_SHARE))
    parts = heading.split(JOINT)
    while len(tokens.starts(heading)) > room and len(parts) > 1:
        parts = parts[1:]
        heading = JOINT.join(parts)
    starts = tokens.starts(heading) if heading else ()
    while len(starts) > room:
        heading = heading[: min(starts[bisect_left(range(len(starts)), room)], len(heading) - 1)].rstrip()
        starts = tokens.starts(heading)
    return heading


def _locator(unit: Unit, piece: Segment, starts: Sequence[int], *, whole: bool) -> Locator:
    if whole and unit.kind != "lines":
        return Locator(unit.kind, unit.name)
    first, last = line_of(starts, piece.start), line_of(starts, piece.end - 1)
    return Locator(unit.kind, unit.name, first, last)


# Split --------------------------------------------------------------------------------------------------------------
# A segment into spans of a given number of tokens, at the best boundaries the splitter finds.

_BLOCK = 200_000
"""Characters given to the tokenizer at once: it needs some 200 bytes per token."""
_CAPACITY_STEP = 1.2
"""Capacities are powers of this, so that a small edit changes neither capacity nor boundaries."""
_MAX_DEPTH = 4
"""How often a span is split again before it is split by tokens."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a text under one heading, with its length in tokens."""

    start: int
    end: int
    heading: str
    tokens: int


def split(text: str, segment: Segment, syntax: str, tokens: TokenCounter, target: int, maximum: int) -> Iterator[Span]:
    """Split a segment into spans of about ``target`` and never over ``maximum`` tokens.

    Args:
        text: The text that offsets count in.
        segment: The segment to split.
        syntax: ``markdown``, a language, or anything else for plain text; empty for data, split by lines only.
        tokens: The tokenizer.
        target: Tokens to aim at.
        maximum: Tokens up to which a segment stays whole.
    """
    for start, end in _blocks(text, segment.start, segment.end):
        starts = tokens.starts(text[start:end])
        if len(starts) <= maximum:
            yield Span(start, end, segment.heading, len(starts))
        elif not syntax:
            for a, b in _split_by_lines(text[start:end], starts, target):
                yield Span(start + a, start + b, segment.heading, _count_tokens(starts, a, b))
        else:
            for a, b in _split_by_structure(text[start:end], starts, syntax, target, maximum, _MAX_DEPTH):
                yield Span(start + a, start + b, segment.heading, _count_tokens(starts, a, b))


def split_by_tokens(text: str, start: int, end: int, tokens: TokenCounter, target: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``target`` tokens, at line ends, else at token starts, else (one endless word) by characters.

    Always at least two spans when the text has two characters, so that repeated splitting ends.
    """
    body = text[start:end]
    spans = list(_split_by_lines(body, tokens.starts(body), target))
    if len(spans) < 2:
        half = max(1, len(body) // 2)
        spans = [(0, half), (half, len(body))]
    for a, b in spans:
        if b > a:
            yield start + a, start + b


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``_BLOCK`` characters, split after a line end where there is one."""
    while end - start > _BLOCK:
        cut = text.rfind("\n", start + _BLOCK // 2, start + _BLOCK) + 1 or start + _BLOCK
        yield start, cut
        start = cut
    yield start, end


def _split_by_structure(
    text: str, starts: Sequence[int], syntax: str, target: int, maximum: int, depth: int
) -> Iterator[tuple[int, int]]:
    """Pieces by the splitter's levels (headings, blocks, lines, sentences, words), each at most ``maximum`` tokens."""
    capacity = _capacity(target * len(text) / max(1, len(starts)))
    bounds = [offset for offset, _ in _splitter(syntax, capacity).chunk_indices(text)]
    edges = sorted({0, *bounds, len(text)})
    for a, b in pairwise(edges):
        count = _count_tokens(starts, a, b)
        if count <= maximum:
            yield a, b
            continue
        inner = [s - a for s in starts[bisect_left(starts, a) : bisect_left(starts, b)]]
        again = _split_by_lines(text[a:b], inner, target)
        if depth and b - a < len(text):
            again = _split_by_structure(text[a:b], inner, syntax, target, maximum, depth - 1)
        for c, d in again:
            yield a + c, a + d


def _capacity(characters: float) -> int:
    """The largest power of ``_CAPACITY_STEP`` within a number of characters, at least 64."""
    return max(64, int(_CAPACITY_STEP ** floor(log(max(64.0, characters), _CAPACITY_STEP))))


@lru_cache(maxsize=64)
def _splitter(syntax: str, capacity: int) -> Any:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter  # noqa: PLC0415

    if syntax in LANGUAGES:
        return CodeSplitter(grammar(syntax), capacity)
    return MarkdownSplitter(capacity) if syntax == "markdown" else TextSplitter(capacity)


def _split_by_lines(text: str, starts: Sequence[int], target: int) -> Iterator[tuple[int, int]]:
    """Whole lines up to ``target`` tokens; a longer line is split at every ``target``-th token."""
    start = count = 0
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        size = _count_tokens(starts, at, end)
        if count and count + size > target:
            yield start, at
            start, count = at, 0
        if size > target:
            first = bisect_left(starts, at)
            for cut in starts[first + target : first + size : target]:
                yield start, cut
                start = cut
            count = _count_tokens(starts, start, end)
        else:
            count += size
        at = end
    if start < len(text):
        yield start, len(text)


def _count_tokens(starts: Sequence[int], start: int, end: int) -> int:
    """Tokens that begin in a span."""
    return bisect_left(starts, end) - bisect_left(starts, start)


# The paragraph around a short piece ---------------------------------------------------------------------------------
# A tokenizer that does not know a script splits it nearly into letters, so the model's window holds a sentence or two
# and one paragraph becomes several chunks. Each then has some of the words of a question and none has all of them. In
# keyword search such a chunk is therefore found by the words of its whole paragraph; figures are in
# ``docs/search.md``.

SHORT = 400
"""Characters below which a chunk may be a piece of a paragraph: half of ``PARAGRAPH``. In English only the ends of
sections are that short."""
PARAGRAPH = 800
"""Characters up to which a piece is extended within its paragraph: about what one chunk of the default model holds of
English, so that text of any script is searched alike."""

_PROSE = frozenset(("text", "markdown", "rst", "org", "latex", "asciidoc"))
# A blank line; a line that ends a sentence; a line before a list, a quotation, a heading or a table.
_PARAGRAPH_BORDER = re.compile(
    r"\n[ \t\r]*\n|(?<=[.!?:;…。！？：；।])[\"'”»)」]?[ \t\r]*\n|\n[ \t]*(?=[-*+•>#|][ \t]|\d{1,3}[.)][ \t]|\|)"
)
_Offsets = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The paragraph around a chunk.

    Attributes:
        texts: Whole neighbouring pieces, or the parts of them that belong to the paragraph; empty for most chunks.
        reach: How many chunks before and after it were examined: a change among these may change ``texts``.
    """

    texts: tuple[str, ...] = ()
    reach: int = 0


def surroundings(document: Document, chunks: Sequence[Chunk]) -> list[Surroundings]:
    """For each chunk, the parts of its paragraph that are in other short chunks.

    Args:
        document: The document of the chunks; only prose has paragraphs.
        chunks: Its chunks in order, or some of them: text that is in none of them is neither used nor crossed.
    """
    found = [Surroundings()] * len(chunks)
    if document.syntax not in _PROSE:
        return found
    for unit, first, spans in _locate_chunks(document.units, chunks):
        if unit.kind == "sheet":
            continue
        for position, (start, end) in enumerate(spans):
            if end - start < SHORT:
                found[first + position] = _surroundings_of(unit.text, spans, position)
    return found


def _locate_chunks(units: Sequence[Unit], chunks: Sequence[Chunk]) -> Iterator[tuple[Unit, int, list[_Offsets]]]:
    """Each unit with the index of its first chunk and the offsets of its chunks in its text."""
    index = 0
    for unit in units:
        spans: list[_Offsets] = []
        first, end = index, 0
        while index < len(chunks) and (chunks[index].locator.kind, chunks[index].locator.unit) == (
            unit.kind,
            unit.name,
        ):
            start = unit.text.find(chunks[index].text, end)
            if start < 0:
                break  # two units have one name: the chunk is in the next
            end = start + len(chunks[index].text)
            spans.append((start, end))
            index += 1
        yield unit, first, spans


def _surroundings_of(text: str, spans: Sequence[_Offsets], position: int) -> Surroundings:
    """Neighbours before and after in turn, until there is enough, the paragraph ends, or a chunk is not short."""
    pieces: list[str] = []
    low, high = spans[position]
    backward = forward = True
    before = after = position
    while (backward or forward) and high - low < PARAGRAPH:
        if backward:
            before -= 1
            reached = _paragraph_start(text, spans[before], low) if before >= 0 else low
            backward = before >= 0 and reached == spans[before][0]
            if before >= 0 and reached < spans[before][1]:
                pieces.append(text[reached : spans[before][1]])
                low = reached
        if forward and high - low < PARAGRAPH:
            after += 1
            reached = _paragraph_end(text, spans[after], high) if after < len(spans) else high
            forward = after < len(spans) and reached == spans[after][1]
            if after < len(spans) and reached > spans[after][0]:
                pieces.append(text[spans[after][0] : reached])
                high = reached
    return Surroundings(tuple(pieces), max(position - before, after - position))


def _paragraph_start(text: str, neighbour: _Offsets, low: int) -> int:
    """Start, in the chunk before, of the paragraph that continues at ``low``; that chunk's end if there is none."""
    start, end = neighbour
    borders = [border.end() for border in _PARAGRAPH_BORDER.finditer(text, start, low)]
    if end - start >= SHORT or text[end:low].strip() or (borders and borders[-1] > end):
        return end
    return borders[-1] if borders else start


def _paragraph_end(text: str, neighbour: _Offsets, high: int) -> int:
    """End, in the chunk after, of the paragraph that continues after ``high``; that chunk's start if there is none."""
    start, end = neighbour
    border = _PARAGRAPH_BORDER.search(text, high - 1, end)
    if end - start >= SHORT or text[high:start].strip() or (border and border.start() < start):
        return start
    return border.start() if border else end
