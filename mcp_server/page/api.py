"""The page's API: search with highlighting, read around a locator, list the files that are not searchable."""

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
from indexer.types import MAX_OFFSET, MAX_TOP_K, Locator, Mode, Query, Scope
from mcp_server.engine_port import EnginePort
from mcp_server.protocol import arguments
from mcp_server.protocol.results import ReadResult, SearchResult, record

AROUND = 15
"""Lines shown before and after the lines of a locator."""
READ_CHARS = 60_000
"""Maximum characters of one reading."""
FILES = 100
"""Files of one page of the list."""


class PageRequest(BaseModel):
    """A request of the page; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class SearchRequest(PageRequest):
    """A search."""

    query: str
    mode: Mode = "hybrid"
    folder: str = ""
    type: str = ""
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)


class ReadRequest(PageRequest):
    """A locator of a file, and how many lines around it."""

    path: str
    locator: str = ""
    around: int = Field(default=AROUND, ge=0, le=500)


class FilesRequest(PageRequest):
    """A page of the list of files that are not searchable, or only in part."""

    outcome: Literal["", "failed", "skipped"] = ""
    text: str = ""
    offset: int = Field(default=0, ge=0)


async def search(engine: EnginePort, request: SearchRequest) -> dict[str, Any]:
    """Search; each snippet comes in ``parts``, those that match and those that do not.

    Raises:
        QueryError: The query, folder or type is invalid; says what would be valid.
    """
    text, notices = arguments.cut_query(request.query)
    folders = arguments.roots_of([request.folder], [one.path for one in engine.folders()]) if request.folder else None
    suffixes = suffixes_of([request.type]) if request.type else None
    scope = Scope(folders, None, None, suffixes)
    answer = await engine.search(Query(text, request.top_k, request.offset, scope, request.mode))
    result = SearchResult.of(answer, text, notices)

    def highlighted() -> dict[str, Any]:
        query = tokens.query_tokens(text)
        document = result.model_dump(mode="json")
        for hit in document["hits"]:
            hit["parts"] = highlight(hit.pop("snippet"), query)
        return document

    return await anyio.to_thread.run_sync(highlighted)


async def read(engine: EnginePort, request: ReadRequest) -> dict[str, Any]:
    """Read around a locator; ``first`` and ``last`` are the lines of the locator itself.

    Raises:
        QueryError: No such file in the index, or no such locator in it.
    """
    locator = Locator.parse(request.locator) if request.locator else None
    wider, first, last = request.locator or None, 0, 0
    if locator is not None and locator.start:
        first, last = locator.start, locator.end or locator.start
        wider = str(Locator(locator.kind, locator.unit, max(1, first - request.around), last + request.around))
    reading = await engine.read(arguments.path_from(request.path), wider, max_chars=READ_CHARS)
    return {**ReadResult.of(reading).model_dump(mode="json"), "first": first, "last": last}


async def files(engine: EnginePort, request: FilesRequest) -> dict[str, Any]:
    """List files that are not searchable, the failed ones first, and count the reasons of all that match."""
    status = engine.status(verbose=True)
    return await anyio.to_thread.run_sync(_list_files, status, request)


def _list_files(status: Status, request: FilesRequest) -> dict[str, Any]:
    words = request.text.casefold().split()

    def matches(one: FileProblem) -> bool:
        text = f"{one.path} {one.reason}".casefold()
        return (not request.outcome or one.outcome == request.outcome) and all(word in text for word in words)

    rank = {"failed": 0, "indexed": 1, "skipped": 2}
    found = [one for folder in status.folders for one in folder.problems if matches(one)]
    found.sort(key=lambda one: (rank[one.outcome], one.path))
    page = found[request.offset : request.offset + FILES]
    return {
        "total": len(found),
        "next": request.offset + FILES if len(found) > request.offset + FILES else None,
        "files": [record(FileProblem).of(one).model_dump(mode="json") for one in page],
        "reasons": [{"reason": why, "files": count} for why, count in Counter(f.reason for f in found).most_common(8)],
    }


# Highlighting -------------------------------------------------------------------------------------------------------
# Which words of a snippet match the query, by the rules of keyword search.

_WORD = re.compile(r"\w+(?:['’]\w+)*")

Part = tuple[str, bool]
"""A piece of text, and whether it is a match."""


def highlight(text: str, query: Collection[str]) -> list[Part]:
    """Split a text into parts that match and parts that do not; joined they are the text.

    Args:
        text: A snippet.
        query: The query's tokens, as ``tokens.query_tokens`` gives them. CPU work: call it in a thread.
    """
    query = frozenset(query)
    language = detect(text)
    spans: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        if any(tokens.is_unspaced(term) for term in tokens.split_terms(tokens.normalize(word[0]))):
            spans += _matching_pairs(word[0], word.start(), query)
        elif tokens.matches(word[0], query, language):
            spans.append(word.span())
    return _split(text, spans)


def _matching_pairs(run: str, start: int, query: Collection[str]) -> list[tuple[int, int]]:
    """Return the spans of matching character pairs in a script without spaces."""
    return [
        (start + at, start + at + 2)
        for at in range(len(run) - 1)
        if tokens.normalize(run[at : at + 2]).casefold() in query
    ]


def _split(text: str, spans: list[tuple[int, int]]) -> list[Part]:
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
