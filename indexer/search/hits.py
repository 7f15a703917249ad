"""What a reader is shown of a hit: its passage, on request with its neighbours, within the budget of the answer."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from indexer.documents.parse import ParseLimits, format_of, parse_here
from indexer.errors import ParseFailed
from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.search.fusion import Fused
from indexer.text.chunk import holds_secret
from indexer.text.language import detect
from indexer.text.tokens import matches
from indexer.types import Document, FileRow, Hit, Locator, Query, StoredChunk, Unit, stored

if TYPE_CHECKING:
    from indexer.store.store import Store

SNIPPET_CHARS = 700
"""About a screenful: enough to judge a hit; eight of them fit the size limits of every client."""
LEAST_CHARS = 100
"""A shorter passage says too little: a small budget shows fewer hits rather than shreds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A place of the ranking whose file was looked at.

    Attributes:
        modified: The file's modification time, seconds since the epoch.
        stale: The file differs from what was indexed.
    """

    found: Fused
    modified: float
    stale: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """Text of one hit before it is cut, and where it stands."""

    text: str
    locator: str


async def passages(store: Store, seen: Sequence[Seen], context: int) -> list[Passage]:
    """The hits' passages, each with up to ``context`` chunks of the same unit before and after it.

    No text is given twice: neighbours end where another hit of the answer, or its neighbours, begin.

    Raises:
        StoreError: The index cannot be read.
    """
    if not context:
        return [Passage(hit.found.chunk.text, hit.found.chunk.locator) for hit in seen]
    taken = {(hit.found.chunk.path, hit.found.chunk.ordinal) for hit in seen}
    out = []
    for hit in seen:
        chunk = hit.found.chunk
        near = await store.chunks_between(chunk.path, chunk.ordinal - context, chunk.ordinal + context)
        run = _run(chunk, {other.ordinal: other for other in near}, taken)
        taken.update((other.path, other.ordinal) for other in run)
        out.append(_joined(run, chunk))
    return out


def hits_of(seen: Sequence[Seen], texts: Sequence[Passage], terms: Sequence[str], query: Query) -> list[Hit]:
    """Cut passages to hits; those of changed text files as they are now. CPU and disk work: runs in a thread.

    Without ``query.max_chars`` every hit has a screenful, more when neighbours were asked for. With it the hits
    share that many characters; those that would have fewer than ``LEAST_CHARS`` are left out, from the end.
    """
    texts = _as_they_are(seen, texts)
    each = SNIPPET_CHARS * (1 + 2 * query.context)
    if query.max_chars is not None:
        texts = texts[: max(1, query.max_chars // LEAST_CHARS)]
        each = level([len(passage.text) for passage in texts], query.max_chars)
    return [
        Hit(
            path=hit.found.chunk.path,
            folder=hit.found.chunk.folder,
            locator=passage.locator,
            heading=hit.found.chunk.heading,
            snippet=snippet(passage.text, terms, each),
            score=hit.found.score,
            matched=hit.found.matched,
            modified=hit.modified,
            stale=hit.stale,
            folded=hit.found.folded,
        )
        for hit, passage in zip(seen, texts, strict=False)
    ]


def _as_they_are(seen: Sequence[Seen], texts: Sequence[Passage]) -> list[Passage]:
    """The passages, those of changed files read again where that is cheap."""
    present = PresentTexts()
    out = []
    for hit, passage in zip(seen, texts, strict=True):
        now = present.place(hit.found.chunk.path, passage.locator, passage.text) if hit.stale else None
        out.append(Passage(now.text, now.locator) if now is not None else passage)
    return out


def _run(chunk: StoredChunk, near: dict[int, StoredChunk], taken: set[tuple[str, int]]) -> list[StoredChunk]:
    """The chunk with those around it, as far as they are there, free, and of the same unit; in order."""
    unit = _unit(chunk)
    run = [chunk]
    for step in (-1, 1):
        at = chunk.ordinal + step
        while at in near and (chunk.path, at) not in taken and _unit(near[at]) == unit is not None:
            run.append(near[at])
            at += step
    return sorted(run, key=lambda each: each.ordinal)


def _unit(chunk: StoredChunk) -> tuple[str, str] | None:
    place = stored(chunk.locator)  # a chunk of another version stands alone
    return (place.kind, place.unit) if place is not None else None


def _joined(run: Sequence[StoredChunk], chunk: StoredChunk) -> Passage:
    """The chunks' text in one piece, with the line ends that stood between them, and the place of all."""
    places = [place for each in run if (place := stored(each.locator)) is not None]
    if len(run) == 1 or len(places) != len(run):
        return Passage(chunk.text, chunk.locator)
    text = run[0].text
    for before, after, other in zip(places, places[1:], run[1:], strict=False):
        text += ("\n" * min(2, after.start - before.end) if after.start > before.end else " ") + other.text
    first = places[0]
    return Passage(text, str(Locator(first.kind, first.unit, first.start, places[-1].end)))


# Freshness ----------------------------------------------------------------------------------------------------------
# Places as they are now: each file is looked at when it is answered for, whatever the index remembers.


def fresh(
    ranking: Sequence[Fused],
    query: Query,
    manifest: Manifest,
    folders: Folders,
    look_again: Callable[[str, str], None],
    turns: int,
) -> tuple[list[Seen], bool]:
    """Cut the wanted page out of a ranking: files that are gone are dropped, changed ones are marked.

    Looks at one file a hit (``stat``): call it from a worker thread.

    Args:
        ranking: Best first.
        query: Says which page.
        manifest: What the index knows of the files.
        folders: The folders; a folder that cannot be reached keeps its hits.
        look_again: Called with folder and path of every file that is gone or changed.
        turns: Those of the manifest before the index was asked: a file whose row is newer counts as changed, since
            its hit may be from before.

    Returns:
        The page, and whether there are more after them.
    """
    page: list[Seen] = []
    passed = 0
    for found in ranking:
        chunk = found.chunk
        row = manifest.row(chunk.folder, chunk.path)
        seen = _seen(chunk, row, folders)
        if seen and manifest.changed_since(turns, chunk.path):
            seen = (seen[0], True)
        if seen is None or seen[1]:
            look_again(chunk.folder, chunk.path)
        if seen is None:
            continue
        passed += 1
        if passed <= query.offset:
            continue
        if len(page) == query.top_k:
            return page, True
        page.append(Seen(found, *seen))
    return page, False


def _seen(chunk: StoredChunk, row: FileRow | None, folders: Folders) -> tuple[float, bool] | None:
    """Modification time and whether the file differs from what was indexed; None when it is gone."""
    try:
        stat = os.stat(chunk.path, follow_symlinks=False)
    except OSError:
        folder = folders.get(chunk.folder)
        if folder is not None and folder.available and os.path.isdir(folder.path):
            return None
        return (row.mtime_ns / 1e9 if row else 0.0), True  # the whole folder is away: unmounted, not deleted
    if not stat.st_size:
        return None  # emptied: nothing is left to cite
    return stat.st_mtime, row is None or (row.size, row.mtime_ns) != (stat.st_size, stat.st_mtime_ns)


# Relocating a hit in a changed file ---------------------------------------------------------------------------------
# What a changed text file says now where a passage of it was found; blocking, for worker threads.
#
# A passage is followed by its lines: those that still stand somewhere say how far it has moved.

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


# Snippet ------------------------------------------------------------------------------------------------------------
# The passage of a chunk that is shown for a query: the best part, cut at line or sentence borders, made safe.

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
