"""What the page asks: searching, reading a place, and the files that are not searchable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field

from indexer.documents.formats import suffixes_of
from indexer.status_types import FileProblem, Status
from indexer.text import tokens
from indexer.text.language import detect
from indexer.text.tokens import matches
from indexer.types import MAX_OFFSET, MAX_TOP_K, Locator, Mode, Query, Scope
from mcp_server.engine_port import EnginePort
from mcp_server.protocol import arguments
from mcp_server.protocol.results import ReadResult, SearchResult, record

AROUND = 15
"""Lines shown before and after the place that is opened."""
READ_CHARS = 60_000
"""Characters of one reading at most."""
FILES = 100
"""Files of one page of the list."""


class Asked(BaseModel):
    """A question of the page; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid")


class SearchAsked(Asked):
    """A search."""

    query: str
    mode: Mode = "hybrid"
    folder: str = ""
    type: str = ""
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)


class ReadAsked(Asked):
    """A place to be shown with what stands around it."""

    path: str
    locator: str = ""
    around: int = Field(default=AROUND, ge=0, le=500)


class FilesAsked(Asked):
    """A page of the files that are not searchable, or not all of them."""

    outcome: Literal["", "failed", "skipped"] = ""
    text: str = ""
    offset: int = Field(default=0, ge=0)


async def search(engine: EnginePort, asked: SearchAsked) -> dict[str, Any]:
    """Search; each snippet comes in ``parts``, pieces that match and pieces that do not.

    Raises:
        QueryError: The query, folder or type makes no sense; says what would.
    """
    from indexer.text.tokens import query_tokens  # noqa: PLC0415 - the stemmers, not before somebody searches

    text, notices = arguments.cut_query(asked.query)
    folders = arguments.roots_of([asked.folder], [one.path for one in engine.folders()]) if asked.folder else None
    suffixes = suffixes_of([asked.type]) if asked.type else None
    scope = Scope(folders, None, None, suffixes)
    answer = await engine.search(Query(text, asked.top_k, asked.offset, scope, asked.mode))
    result = SearchResult.of(answer, text, notices)

    def made() -> dict[str, Any]:
        tokens = query_tokens(text)
        document = result.model_dump(mode="json")
        for hit in document["hits"]:
            hit["parts"] = marked(hit.pop("snippet"), tokens)
        return document

    return await anyio.to_thread.run_sync(made)


async def read(engine: EnginePort, asked: ReadAsked) -> dict[str, Any]:
    """Read a place with what stands around it; ``first`` and ``last`` are the lines that were asked for.

    Raises:
        QueryError: No such file in the index, or no such place in it.
    """
    place = Locator.parse(asked.locator) if asked.locator else None
    wider, first, last = asked.locator or None, 0, 0
    if place is not None and place.start:
        first, last = place.start, place.end or place.start
        wider = str(Locator(place.kind, place.unit, max(1, first - asked.around), last + asked.around))
    reading = await engine.read(arguments.file_path(asked.path), wider, max_chars=READ_CHARS)
    return {**ReadResult.of(reading).model_dump(mode="json"), "first": first, "last": last}


async def files(engine: EnginePort, asked: FilesAsked) -> dict[str, Any]:
    """List files that are not searchable, the failed ones first, and count the reasons of all that fit."""
    status = engine.status(verbose=True)
    return await anyio.to_thread.run_sync(_listed, status, asked)


def _listed(status: Status, asked: FilesAsked) -> dict[str, Any]:
    words = asked.text.casefold().split()

    def fits(one: FileProblem) -> bool:
        text = f"{one.path} {one.reason}".casefold()
        return (not asked.outcome or one.outcome == asked.outcome) and all(word in text for word in words)

    rank = {"failed": 0, "indexed": 1, "skipped": 2}
    found = [one for folder in status.folders for one in folder.problems if fits(one)]
    found.sort(key=lambda one: (rank[one.outcome], one.path))
    page = found[asked.offset : asked.offset + FILES]
    return {
        "total": len(found),
        "next": asked.offset + FILES if len(found) > asked.offset + FILES else None,
        "files": [record(FileProblem).of(one).model_dump(mode="json") for one in page],
        "reasons": [{"reason": why, "files": count} for why, count in Counter(f.reason for f in found).most_common(8)],
    }


# Highlighting -------------------------------------------------------------------------------------------------------
# Where a query's words stand in a passage, by the same rules by which they were found.

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
        if any(tokens.is_unspaced(term) for term in tokens.split_terms(tokens.normalize(word[0]))):
            spans += _pairs(word[0], word.start(), wanted)
        elif matches(word[0], wanted, language):
            spans.append(word.span())
    return _cut(text, spans)


def _pairs(run: str, start: int, wanted: Collection[str]) -> list[tuple[int, int]]:
    """Matching pairs of characters in a script that writes no spaces."""
    return [
        (start + at, start + at + 2)
        for at in range(len(run) - 1)
        if tokens.normalize(run[at : at + 2]).casefold() in wanted
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
