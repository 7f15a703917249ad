"""Where a query's words stand in a passage, by the same rules by which they were found."""

from __future__ import annotations

import re
from collections.abc import Collection

from indexer.text import tokens
from indexer.text.language import detect
from indexer.text.tokens import matches

_WORD = re.compile(r"\w+(?:['’]\w+)*")

Part = tuple[str, bool]
"""A piece of text, and whether it is a match."""


def marked(text: str, wanted: Collection[str]) -> list[Part]:
    """Cut a text into pieces that match and pieces that do not; put together they are the text.

    Args:
        text: A passage.
        wanted: The query's tokens, as ``words.query_tokens`` gives them. CPU work: call it in a thread.
    """
    wanted = frozenset(wanted)
    language = detect(text)
    spans: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        if any(tokens.is_run(term) for term in tokens.cut(tokens.normal(word[0]))):
            spans += _pairs(word[0], word.start(), wanted)
        elif matches(word[0], wanted, language):
            spans.append(word.span())
    return _cut(text, spans)


def _pairs(run: str, start: int, wanted: Collection[str]) -> list[tuple[int, int]]:
    """Matching pairs of characters in a script that writes no spaces."""
    return [
        (start + at, start + at + 2)
        for at in range(len(run) - 1)
        if tokens.normal(run[at : at + 2]).casefold() in wanted
    ]


def _cut(text: str, spans: list[tuple[int, int]]) -> list[Part]:
    parts: list[Part] = []
    done = 0
    for start, end in spans:
        if start > done:
            parts.append((text[done:start], False))
        if end <= done:
            continue
        piece = text[max(start, done) : end]
        if parts and parts[-1][1]:
            parts[-1] = (parts[-1][0] + piece, True)
        else:
            parts.append((piece, True))
        done = end
    if done < len(text):
        parts.append((text[done:], False))
    return parts
