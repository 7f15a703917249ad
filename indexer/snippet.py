"""The passage of a chunk that is shown for a query: the best part, cut at line or sentence borders, made safe."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from indexer.text.language import detect
from indexer.text.tokens import matches

ELLIPSIS = "…"
# C0 and C1 controls except tab and newline, bidirectional controls, zero-width characters, tags, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef]"
)
_KEPT_JOINER = re.compile("(?<=[\u0600-\u06ff\u0900-\u0dff\u1000-\u109f\U0001f000-\U0001faff\ufe0f])\u200d|"
                          "(?<=[\u0600-\u06ff\u0900-\u0dff])\u200c")  # fmt: skip
_BORDER = re.compile(r"\n+|(?<=[.!?…:;])[ \t]+(?=\S)|(?<=[。！？；])|(?<=।)\s*")
_BLANK_LINES = re.compile(r"\n{3,}")
_LONGEST_PIECE = 200


def clean(text: str) -> str:
    """``text`` without characters that hide or reorder what a reader or a model sees; line ends as newlines.

    Zero-width joiners stay where a script or an emoji needs them.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    kept = {match.start() for match in _KEPT_JOINER.finditer(text)}
    return _UNSAFE.sub(lambda match: match[0] if match.start() in kept else "", text)


def snippet(chunk_text: str, query_tokens: Collection[str], budget_chars: int) -> str:
    """Cut the best passage of a chunk for a query: at most ``budget_chars`` characters, ellipses included.

    The passage is the run of whole lines or sentences within the budget that has the most different tokens of the
    query, then the most occurrences, with the match in its middle; without a match, the beginning.

    Args:
        chunk_text: The chunk's text.
        query_tokens: What the query asks for, as ``text.words.query_tokens`` gives it.
        budget_chars: Longest answer, in characters; at least 16.
    """
    text = _BLANK_LINES.sub("\n\n", clean(chunk_text)).strip()
    if len(text) <= budget_chars:
        return text
    budget = max(budget_chars, 16) - 2 * len(ELLIPSIS)
    pieces = _pieces(text, budget)
    first, last = _best(text, pieces, frozenset(query_tokens), budget)
    start, end = pieces[first][0], pieces[last][1]
    passage = text[start:end].strip()
    return f"{ELLIPSIS if start else ''}{passage}{ELLIPSIS if end < len(text) else ''}"


def level(lengths: Sequence[int], total: int) -> int:
    """The largest length such that texts cut to it have ``total`` characters together; the longest when all fit."""
    left, share = total, 0
    for place, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - place)
        if length > share:
            return share
        left -= length
    return max(lengths, default=total)


def _pieces(text: str, budget: int) -> list[tuple[int, int]]:
    """Spans of the text's lines and sentences; those too long are cut at spaces, at worst inside a word."""
    longest = max(8, min(_LONGEST_PIECE, budget))
    borders = [0, *(match.end() for match in _BORDER.finditer(text)), len(text)]
    spans: list[tuple[int, int]] = []
    for border, end in pairwise(borders):
        start = border
        while end - start > longest:
            space = text.rfind(" ", start + longest // 2, start + longest)
            middle = space + 1 if space > 0 else start + longest
            spans.append((start, middle))
            start = middle
        if end > start:
            spans.append((start, end))
    return spans


def _best(text: str, pieces: list[tuple[int, int]], wanted: frozenset[str], budget: int) -> tuple[int, int]:
    """Indexes of the first and last piece of the best run that fits the budget."""
    language = detect(text)
    found = [matches(text[start:end], wanted, language) for start, end in pieces]
    runs: list[tuple[int, int, int, int]] = []
    last = 0
    for first in range(len(pieces)):
        last = max(last, first)
        while last + 1 < len(pieces) and pieces[last + 1][1] - pieces[first][0] <= budget:
            last += 1
        inside = [token for tokens in found[first : last + 1] for token in tokens]
        runs.append((len(set(inside)), len(inside), first, last))
    most = max(run[:2] for run in runs)
    equal = [run for run in runs if run[:2] == most]
    together = [run for run in equal if run[2] <= equal[0][3]]
    return (together[len(together) // 2] if most[0] else equal[0])[2:]
