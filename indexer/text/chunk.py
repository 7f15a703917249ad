"""Document to chunks: exact slices of its units that the model sees whole, cut where the text itself is cut.

One pass of the model's tokenizer over each stretch turns a limit in tokens into a limit in characters; the splitter
works in characters (30 to 100 times faster than counting tokens) and what still comes out too long is split again.
Stretches are what a heading, a function or a class spans, so an edit moves boundaries in its own stretch only.
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
"""Stamp of this recipe: any change that moves a boundary or a heading raises it."""

FILL = 0.7
"""Share of the model's window that a chunk aims at: room for a whole paragraph more before it must be cut."""
MOST = 400
"""Tokens a chunk aims at whatever the window: one vector stands for few ideas, and answers quote whole chunks."""
SMALL = 1 / 3
"""Share of the aim below which a chunk is joined to a neighbour under the same heading."""
HEADING = 1 / 4
"""Share of the window that the heading path may take."""
DATA = 5_000_000
"""Characters beyond which a text is data, not prose: cut by lines, without looking for structure."""
_INDENT = 200
"""Characters of indentation kept at most (looking back without bound costs the square of the text)."""
LONG_LINE = 20_000
"""Characters of a line that make a text data: splitters take seconds a megabyte on such lines."""


class TokenCounter(Protocol):
    """The model's tokenizer, as far as chunking needs it."""

    def starts(self, text: str) -> Sequence[int]:
        """Character offset of the first character of each token of ``text``, ascending, no special tokens."""
        ...


def chunk(document: Document, tokens: TokenCounter, limit: int) -> tuple[Chunk, ...]:
    """Cut a document into chunks whose passage has at most ``limit`` tokens; pure and deterministic.

    Args:
        document: What was parsed.
        tokens: The tokenizer of the model that will embed the chunks.
        limit: Tokens of a passage (heading, newline, text) that the model sees, special tokens not counted; at
            least 16.

    Returns:
        Chunks in reading order. Every character that is not white space lies in exactly one of them.
    """
    if limit < 16:
        raise ValueError(f"a limit of {limit} tokens leaves no room for text; 16 is the least")
    chunks: list[Chunk] = []
    for unit in document.units:
        pieces = list(_pieces(unit, document.syntax, tokens, limit))
        starts = line_starts(unit.text)
        for piece in pieces:
            locator = _locator(unit, piece, starts, whole=len(pieces) == 1)
            chunks.append(Chunk(len(chunks), unit.text[piece.start : piece.end], piece.heading, locator))
    return tuple(chunks)


def _pieces(unit: Unit, syntax: str, tokens: TokenCounter, limit: int) -> Iterator[Segment]:
    """The chunks of one unit as spans with their final heading."""
    if not unit.text.strip():
        return
    aim = max(1, min(int(limit * FILL), MOST))
    most = min(limit, aim * 5 // 4)
    data = len(unit.text) > DATA or _has_long_line(unit.text)
    found: list[Span] = []
    for segment in _outline(unit, syntax, data):
        found += split(unit.text, segment, "" if data else syntax, tokens, aim, most)
    found = [stretch for stretch in found if not unit.text[stretch.start : stretch.end].isspace()]
    # Within a section first: a heading's own line belongs to what follows it, not to the section before.
    within = _joined(found, aim, most, across=False)
    for stretch in _joined(within, aim, most, across=True):
        yield from _fitted(unit.text, stretch, tokens, limit)


def _outline(unit: Unit, syntax: str, data: bool) -> Sequence[Segment]:
    """Stretches of a unit with full heading paths; sheets repeat their header as heading below the header's row."""
    text = unit.text
    if unit.kind == "sheet":
        name = unit.heading or unit.name
        header, below = header_of(text)
        if not header or below >= len(text):
            return (Segment(0, len(text), name),)
        return (Segment(0, below, name), Segment(below, len(text), _under(name, header)))
    if data:
        return (Segment(0, len(text), unit.heading),)
    found = code_segments(text, syntax) if syntax in LANGUAGES else segments(text, syntax)
    prefix = unit.heading
    first = found[0].heading or (found[1].heading if len(found) > 1 and not text[: found[0].end].strip() else "")
    if first and prefix.endswith(first):
        # The unit is named by its own first heading: do not say it twice.
        prefix = prefix[: -len(first)].removesuffix(JOINT)
    return [Segment(s.start, s.end, _under(prefix, s.heading)) for s in found]


def _under(prefix: str, heading: str) -> str:
    return JOINT.join(part for part in (prefix, heading) if part)


def _has_long_line(text: str) -> bool:
    last = -1
    while (end := text.find("\n", last + 1)) >= 0:
        if end - last > LONG_LINE:
            return True
        last = end
    return len(text) - last > LONG_LINE


def _joined(stretches: Iterable[Span], aim: int, most: int, *, across: bool) -> Iterator[Span]:
    """Join a small stretch to its neighbour when both stand under one heading (up to ``most``).

    ``across`` joins small sections too, when one stands under the other or both under one parent (up to ``aim``).
    """
    small, held = aim * SMALL, None
    for stretch in stretches:
        if held is None:
            held = stretch
            continue
        same = held.heading == stretch.heading
        shared = held.heading if same else _shared(held, stretch, small) if across else None
        fits = held.tokens + stretch.tokens <= (most if same else aim) and min(held.tokens, stretch.tokens) < small
        if fits and shared is not None:
            held = Span(held.start, stretch.end, shared, held.tokens + stretch.tokens)
        else:
            yield held
            held = stretch
    if held is not None:
        yield held


def _shared(a: Span, b: Span, small: float) -> str | None:
    """The heading two neighbours can share, None when they must stay apart.

    A heading and what stands below it; or two small sections of one parent (their titles stay in the text).
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


def _fitted(text: str, stretch: Span, tokens: TokenCounter, limit: int) -> Iterator[Segment]:
    """Trim a stretch to its text and count the passage itself: tokens at its edges differ from those in context.

    The count is spared where it cannot matter: between words an edge changes a few tokens at most (a word marker, a
    merged space), and an eighth of the window is free. Inside a word it can change any number.
    """
    start, end = _trimmed(text, stretch.start, stretch.end)
    if start >= end:
        return
    heading = _fitted_heading(stretch.heading, tokens, limit)
    body = text[start:end]
    passage = f"{heading}\n{body}" if heading else body
    count = stretch.tokens + len(tokens.starts(heading)) if heading else stretch.tokens
    if not (stretch.tokens and count + limit // 8 <= limit and _between_words(text, start, end)):
        count = len(tokens.starts(passage))
    if count <= limit:
        yield Segment(start, end, heading)
        return
    room = limit - (count - len(tokens.starts(body)) if heading else 0)
    for piece in cut_hard(text, start, end, tokens, max(1, min(room * 4 // 5, (count - 1) // 2))):
        yield from _fitted(text, Span(piece[0], piece[1], stretch.heading, 0), tokens, limit)


def _between_words(text: str, start: int, end: int) -> bool:
    """Whether a span begins and ends at white space or at the text's own ends."""
    return (start == 0 or text[start - 1].isspace() or text[start].isspace()) and (
        end == len(text) or text[end].isspace()
    )


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at both ends, but with the indentation of the first line."""
    body = text[start:end]
    first, last = start + len(body) - len(body.lstrip()), start + len(body.rstrip())
    near = max(0, first - _INDENT)
    line = max(near, text.rfind("\n", near, first) + 1)
    return (line if text[line:first].isspace() else first), last


def _fitted_heading(heading: str, tokens: TokenCounter, limit: int) -> str:
    """A heading path within its share of the window: outer parts go first, then the end of the innermost."""
    room = max(1, int(limit * HEADING))
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
# A stretch of text into pieces of a given number of tokens, at the best boundary the splitter knows.

_BLOCK = 200_000
"""Characters given to the tokenizer at once: it keeps some 200 bytes a token."""
_STEP = 1.2
"""Capacities are powers of this, so that a small edit leaves capacity and boundaries as they were."""
_DEPTH = 4
"""How often a piece is split again before it is cut by tokens."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a text under one heading, with its length in tokens."""

    start: int
    end: int
    heading: str
    tokens: int


def split(text: str, segment: Segment, syntax: str, tokens: TokenCounter, aim: int, most: int) -> Iterator[Span]:
    """Cut a segment into stretches of about ``aim`` and never over ``most`` tokens.

    Args:
        text: The text that offsets count in.
        segment: What to cut.
        syntax: ``markdown``, a language, or anything else for plain text; empty for data, cut by lines alone.
        tokens: The tokenizer.
        aim: Tokens to aim at.
        most: Tokens up to which a segment stays whole.
    """
    for start, end in _blocks(text, segment.start, segment.end):
        starts = tokens.starts(text[start:end])
        if len(starts) <= most:
            yield Span(start, end, segment.heading, len(starts))
        elif not syntax:
            for a, b in _by_lines(text[start:end], starts, aim):
                yield Span(start + a, start + b, segment.heading, _count(starts, a, b))
        else:
            for a, b in _by_structure(text[start:end], starts, syntax, aim, most, _DEPTH):
                yield Span(start + a, start + b, segment.heading, _count(starts, a, b))


def cut_hard(text: str, start: int, end: int, tokens: TokenCounter, aim: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``aim`` tokens, at line ends, else at token starts, else (one endless word) by characters.

    Always at least two spans when the text has two characters, so that cutting again ends.
    """
    body = text[start:end]
    spans = list(_by_lines(body, tokens.starts(body), aim))
    if len(spans) < 2:
        half = max(1, len(body) // 2)
        spans = [(0, half), (half, len(body))]
    for a, b in spans:
        if b > a:
            yield start + a, start + b


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``_BLOCK`` characters, cut after a line end where there is one."""
    while end - start > _BLOCK:
        cut = text.rfind("\n", start + _BLOCK // 2, start + _BLOCK) + 1 or start + _BLOCK
        yield start, cut
        start = cut
    yield start, end


def _by_structure(
    text: str, starts: Sequence[int], syntax: str, aim: int, most: int, depth: int
) -> Iterator[tuple[int, int]]:
    """Pieces by the splitter's levels (headings, blocks, lines, sentences, words), each at most ``most`` tokens."""
    capacity = _capacity(aim * len(text) / max(1, len(starts)))
    bounds = [offset for offset, _ in _splitter(syntax, capacity).chunk_indices(text)]
    edges = sorted({0, *bounds, len(text)})
    for a, b in pairwise(edges):
        count = _count(starts, a, b)
        if count <= most:
            yield a, b
            continue
        inner = [s - a for s in starts[bisect_left(starts, a) : bisect_left(starts, b)]]
        again = _by_lines(text[a:b], inner, aim)
        if depth and b - a < len(text):
            again = _by_structure(text[a:b], inner, syntax, aim, most, depth - 1)
        for c, d in again:
            yield a + c, a + d


def _capacity(characters: float) -> int:
    """The largest power of ``_STEP`` within a number of characters, at least 64."""
    return max(64, int(_STEP ** floor(log(max(64.0, characters), _STEP))))


@lru_cache(maxsize=64)
def _splitter(syntax: str, capacity: int) -> Any:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter  # noqa: PLC0415

    if syntax in LANGUAGES:
        return CodeSplitter(grammar(syntax), capacity)
    return MarkdownSplitter(capacity) if syntax == "markdown" else TextSplitter(capacity)


def _by_lines(text: str, starts: Sequence[int], aim: int) -> Iterator[tuple[int, int]]:
    """Whole lines up to ``aim`` tokens; a longer line is cut at every ``aim``-th token."""
    start = count = 0
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        size = _count(starts, at, end)
        if count and count + size > aim:
            yield start, at
            start, count = at, 0
        if size > aim:
            first = bisect_left(starts, at)
            for cut in starts[first + aim : first + size : aim]:
                yield start, cut
                start = cut
            count = _count(starts, start, end)
        else:
            count += size
        at = end
    if start < len(text):
        yield start, len(text)


def _count(starts: Sequence[int], start: int, end: int) -> int:
    """Tokens that begin in a span."""
    return bisect_left(starts, end) - bisect_left(starts, start)


# The paragraph around a short piece ---------------------------------------------------------------------------------
# The paragraph that a chunk is only a short piece of, as far as other chunks hold it.
#
# A model whose tokenizer does not know a script cuts it nearly into letters, so its window holds a sentence or two
# and one paragraph becomes several chunks. Each then has some of the words that a question asks for and none has
# all of them. Searched by word, such a piece stands for its paragraph; the figures are in ``docs/search.md``.

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


# Secrets ------------------------------------------------------------------------------------------------------------
# Secrets by content: chunks that hold a key or a token are not indexed.
#
# The second layer, behind the names that the walk refuses: patterns of credentials that nobody quotes by accident.

_PATTERNS = (
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}",
    r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    r"\bAIza[0-9A-Za-z_-]{35}\b",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
)
_SECRET = re.compile("|".join(_PATTERNS))
_MARKS = (
    *("-----BEGIN ", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
    *("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "sk-", "k_live_", "AIza", "eyJ"),
)
"""What every secret begins with or holds: looking for these takes a fortieth of the time the patterns take."""
_KEY_START = re.compile(_PATTERNS[0])
_KEY_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")


_KEY_CHUNKS = 20
"""Chunks within which a private key must end for what lies between to be taken for it; else it is only quoted."""


def holds_secret(text: str) -> bool:
    """Whether a key or a token stands in a text."""
    return any(mark in text for mark in _MARKS) and _SECRET.search(text) is not None


def redacted(chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], int]:
    """The chunks without those that hold a secret, and how many were dropped; ordinals stay as they were.

    A private key longer than one chunk is dropped from its first line to its last.
    """
    dropped = {n for n, chunk in enumerate(chunks) if holds_secret(chunk.text)}
    for first in [n for n in dropped if _open_key(chunks[n].text)]:
        following = range(first + 1, min(first + 1 + _KEY_CHUNKS, len(chunks)))
        end = next((n for n in following if _KEY_END.search(chunks[n].text)), None)
        if end is not None:
            dropped.update(range(first, end + 1))
    return tuple(chunk for n, chunk in enumerate(chunks) if n not in dropped), len(dropped)


def _open_key(text: str) -> bool:
    """Whether a private key begins in a text and does not end in it."""
    starts = [match.end() for match in _KEY_START.finditer(text)]
    return bool(starts) and _KEY_END.search(text, starts[-1]) is None
