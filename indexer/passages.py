"""What a reader is shown of a hit: its passage, on request with its neighbours, within the budget of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.answer import Hit, Query
from indexer.fusion import Fused
from indexer.locator import Locator, stored
from indexer.present_text import PresentTexts
from indexer.snippet import level, snippet
from indexer.store.store import Store
from indexer.types import StoredChunk

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
