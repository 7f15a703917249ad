"""A stretch of text into pieces of a given number of tokens, at the best boundary the splitter knows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import floor, log
from typing import TYPE_CHECKING, Any

from indexer.text.code import LANGUAGES, grammar
from indexer.text.headings import Segment

if TYPE_CHECKING:
    from indexer.text.chunk import TokenCounter

_BLOCK = 200_000
"""Characters given to the tokenizer at once: it keeps some 200 bytes a token."""
_STEP = 1.2
"""Capacities are powers of this, so that a small edit leaves capacity and boundaries as they were."""
_DEPTH = 4
"""How often a piece is split again before it is cut by tokens."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A span of a text under one heading, with its length in tokens."""

    start: int
    end: int
    heading: str
    tokens: int


def split(text: str, segment: Segment, syntax: str, tokens: TokenCounter, aim: int, most: int) -> Iterator[Stretch]:
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
            yield Stretch(start, end, segment.heading, len(starts))
        elif not syntax:
            for a, b in _by_lines(text[start:end], starts, aim):
                yield Stretch(start + a, start + b, segment.heading, _count(starts, a, b))
        else:
            for a, b in _by_structure(text[start:end], starts, syntax, aim, most, _DEPTH):
                yield Stretch(start + a, start + b, segment.heading, _count(starts, a, b))


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
