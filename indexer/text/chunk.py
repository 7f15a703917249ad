"""Document to chunks: exact slices of its units that the model sees whole, cut where the text itself is cut.

One pass of the model's tokenizer over each stretch turns a limit in tokens into a limit in characters; the splitter
works in characters (30 to 100 times faster than counting tokens) and what still comes out too long is split again.
Stretches are what a heading, a function or a class spans, so an edit moves boundaries in its own stretch only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from indexer.locator import Locator
from indexer.text.code import LANGUAGES, code_segments
from indexer.text.headings import JOINT, Segment, segments
from indexer.text.lines import line_of, line_starts
from indexer.text.split import Stretch, cut_hard, split
from indexer.text.table import header_of
from indexer.types import Chunk, Document, Unit

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
    found: list[Stretch] = []
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


def _joined(stretches: Iterable[Stretch], aim: int, most: int, *, across: bool) -> Iterator[Stretch]:
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
            held = Stretch(held.start, stretch.end, shared, held.tokens + stretch.tokens)
        else:
            yield held
            held = stretch
    if held is not None:
        yield held


def _shared(a: Stretch, b: Stretch, small: float) -> str | None:
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


def _fitted(text: str, stretch: Stretch, tokens: TokenCounter, limit: int) -> Iterator[Segment]:
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
        yield from _fitted(text, Stretch(piece[0], piece[1], stretch.heading, 0), tokens, limit)


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
