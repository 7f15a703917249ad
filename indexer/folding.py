"""One hit per place: overlapping chunks, copies and floods from one file, folded away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from indexer.fusion import Fused
from indexer.locator import Locator, stored
from indexer.text.chunk import SHORT
from indexer.text.language import detect
from indexer.text.question import Question
from indexer.text.tokens import matches, plain
from indexer.types import Scored, StoredChunk

MAX_PER_FILE = 3
"""Hits a file may have before other files' hits go first."""
_ALIKE = 0.9
_SHINGLE = 5
_COMPARED = 60
_NEAR = 8
"""Chunks on either side in which a piece of a paragraph may have its words from."""


def fold(fused: Sequence[Fused], max_per_file: int = MAX_PER_FILE) -> list[Fused]:
    """Fold a ranking: each place once, best first; what was folded into a hit is counted there.

    A hit is folded into an earlier one when it is the same text (anywhere), when it overlaps it in its file, when
    it is the next or previous chunk of the same unit, or when nearly all runs of five words are shared (Jaccard
    0.9): a reader of the first would gain nothing or only a neighbour, and can read on from its locator. A file's
    hits beyond ``max_per_file`` go after all others rather than away: one long document must not hide the rest of
    the folder, and a folder of one document must still fill the answer.

    Args:
        fused: A ranking, best first.
        max_per_file: Hits a file may have before the other files' hits go first.
    """
    kept: list[Fused] = []
    places = _Places()
    for hit in fused:
        into = places.find_or_add(hit.chunk, len(kept))
        if into is None:
            kept.append(hit)
        else:
            kept[into] = replace(kept[into], folded=kept[into].folded + 1 + hit.folded)
    return _spread(kept, max_per_file)


def with_own_words(keyword: Sequence[Scored], question: Question) -> list[Scored]:
    """A keyword list without the chunks that only their paragraph's words brought: they show nothing of the query.

    A short chunk goes when a better hit stands near it in its file and its passage and path have none of the words.
    """
    wanted = frozenset(question.tokens)
    seen: dict[str, list[int]] = {}
    kept = []
    for hit in keyword:
        chunk = hit.chunk
        others = seen.setdefault(chunk.path, [])
        lent = len(chunk.text) < SHORT and any(abs(chunk.ordinal - other) <= _NEAR for other in others)
        others.append(chunk.ordinal)
        if not lent or _has_any(chunk, wanted, question.language):
            kept.append(hit)
    return kept


def _has_any(chunk: StoredChunk, wanted: frozenset[str], language: str) -> bool:
    """Whether a chunk itself has a word of the query, as its own language or the query's stems it."""
    text = f"{chunk.passage}\n{chunk.path.removeprefix(chunk.folder)}"
    return any(matches(text, wanted, known) for known in {detect(chunk.text), language})


def _spread(hits: Sequence[Fused], max_per_file: int) -> list[Fused]:
    seen: dict[str, int] = {}
    first: list[Fused] = []
    later: list[Fused] = []
    for hit in hits:
        seen[hit.chunk.path] = seen.get(hit.chunk.path, 0) + 1
        (first if seen[hit.chunk.path] <= max_per_file else later).append(hit)
    return first + later


class _Places:
    """The places already taken, found by text, by neighbourhood and by likeness.

    Likeness is looked for by prefix: of two sets with a Jaccard index of at least t, put in one common order, the
    first ``n - ceil(t * n) + 1`` members of each share at least one (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
    Srikant 2007). So nearly all pairs are never compared, and none that is alike is missed.
    """

    __slots__ = ("_by_file", "_by_shingle", "_by_text", "_compared")

    def __init__(self) -> None:
        self._by_text: dict[str, int] = {}
        self._by_file: dict[str, list[tuple[StoredChunk, Locator | None, int]]] = {}
        self._by_shingle: dict[int, list[tuple[int, frozenset[int]]]] = {}
        self._compared = 0

    def find_or_add(self, chunk: StoredChunk, index: int) -> int | None:
        """The place a chunk is folded into; None when it is its own, which is then kept as ``index``."""
        if chunk.text_hash in self._by_text:
            return self._by_text[chunk.text_hash]
        place = stored(chunk.locator)  # one of another version is its own place
        for other, locator, taken in self._by_file.get(chunk.path, ()):
            if _touch(chunk, place, other, locator):
                return taken
        own = _shingles(chunk.text)
        prefix = sorted(own)[: len(own) - math.ceil(_ALIKE * len(own)) + 1]
        near = {pair for shingle in prefix for pair in self._by_shingle.get(shingle, ())}
        alike = [taken for taken, theirs in near if _alike(own, theirs)]
        if alike:
            return min(alike)
        self._by_text[chunk.text_hash] = index
        self._by_file.setdefault(chunk.path, []).append((chunk, place, index))
        if self._compared < _COMPARED:
            self._compared += 1
            for shingle in prefix:
                self._by_shingle.setdefault(shingle, []).append((index, own))
        return None


def _alike(one: frozenset[int], other: frozenset[int]) -> bool:
    shared = len(one & other)
    return shared >= _ALIKE * (len(one) + len(other) - shared)


def _touch(chunk: StoredChunk, place: Locator | None, other: StoredChunk, locator: Locator | None) -> bool:
    """Whether two chunks of one file overlap or follow each other within one unit."""
    if place is None or locator is None or (place.kind, place.unit) != (locator.kind, locator.unit):
        return False
    if abs(chunk.ordinal - other.ordinal) <= 1:
        return True
    return bool(place.start and locator.start) and place.start <= locator.end and locator.start <= place.end


def _shingles(text: str) -> frozenset[int]:
    words = plain(text).split()
    if len(words) < 2 * _SHINGLE:  # too short, or a script without spaces: compare characters
        letters = "".join(words)
        return frozenset(hash(letters[i : i + 12]) for i in range(max(1, len(letters) - 11)))
    return frozenset(map(hash, zip(*(words[i:] for i in range(_SHINGLE)), strict=False)))
