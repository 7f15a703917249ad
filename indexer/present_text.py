"""What a changed text file says now where a passage of it was found; blocking, for worker threads.

A passage is followed by its lines: those that still stand somewhere say how far it has moved.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from indexer.documents.parse import ParseLimits, format_of, parse_here
from indexer.errors import ParseFailed
from indexer.locator import Locator, stored
from indexer.text.chunk import holds_secret
from indexer.types import Document, Unit

MOST_BYTES = 1_000_000
"""Larger files are not read while somebody waits for an answer."""
ALL_BYTES = 4_000_000
"""Bytes that one answer reads at most: decoding takes about 10 ms a megabyte."""
_EVERYWHERE = 20
"""A line that stands more often than this (a bracket, a rule) says nothing of where a passage went."""


class Place(NamedTuple):
    """A span of whole lines as it stands in a file now."""

    locator: str
    text: str


class PresentTexts:
    """The changed files of one answer, each read at most once."""

    def __init__(self) -> None:
        self._read: dict[str, Document | None] = {}
        self._left = ALL_BYTES

    def place(self, path: str, locator: str, passage: str) -> Place | None:
        """Where ``passage`` stands now, or what stands in its place.

        Args:
            path: The file, absolute.
            locator: Where the passage was.
            passage: What it was.

        Returns:
            None when it cannot be told cheaply and safely: not plain text, large, unreadable, or with a secret in it.
        """
        if path not in self._read:
            self._read[path] = self._document(path)
        document = self._read[path]
        if document is None:
            return None
        place = stored(locator)
        if place is None:
            return None
        unit = next((u for u in document.units if (u.kind, u.name) == (place.kind, place.unit)), None)
        return None if unit is None else _followed(unit, place, passage)

    def _document(self, path: str) -> Document | None:
        if os.path.realpath(path) != path:
            return None
        try:
            if not format_of(path).in_process:
                return None
            parsed = parse_here(path, ParseLimits(max_bytes=min(MOST_BYTES, self._left)))
        except ParseFailed:
            return None
        self._left -= parsed.size
        return None if any(holds_secret(unit.text) for unit in parsed.document.units) else parsed.document


def _followed(unit: Unit, place: Locator, passage: str) -> Place:
    lines = unit.text.removesuffix("\n").split("\n")
    old = passage.split("\n")
    first = max(place.start, 1)
    length = place.end - place.start if place.start else len(lines) - 1
    start = max(1, min(first + _shift(lines, old, first), len(lines)))
    end = min(start + length, len(lines))
    text = "\n".join(line.removesuffix("\r") for line in lines[start - 1 : end])
    return Place(str(Locator(unit.kind, unit.name, start, end)), text)


def _shift(lines: Sequence[str], old: Sequence[str], first: int) -> int:
    """By how many lines the passage has moved: what most of its lines say, the smallest move among equals."""
    was: dict[str, list[int]] = {}
    for number, line in enumerate(old, first):
        if line.strip():
            was.setdefault(line.strip(), []).append(number)
    now: dict[str, list[int]] = {line: [] for line in was}
    for number, line in enumerate(lines, 1):
        if (found := now.get(line.strip())) is not None and len(found) <= _EVERYWHERE:
            found.append(number)
    votes = Counter(
        after - before
        for line, numbers in was.items()
        for before in numbers[:_EVERYWHERE]
        for after in now[line]
        if len(now[line]) <= _EVERYWHERE
    )
    return min(votes, key=lambda move: (-votes[move], abs(move)), default=0)
