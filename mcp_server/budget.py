"""Answers that fit: clients cut or refuse results beyond a size, so we shorten first and say so.

Claude Code, the strictest known, refuses more than 25,000 tokens; scripts without spaces take up to a token a
character. Sizes here are characters of snippets and bytes of JSON.
"""

from __future__ import annotations

from dataclasses import replace

from indexer.status_types import FolderStatus, Status
from mcp_server.records import record
from mcp_server.schemas import HitRecord, ReadResult, SearchResult

SNIPPETS = 10_000
"""Characters all snippets of an answer have together."""
SNIPPET_FLOOR = 200
"""No snippet is shortened below this many characters."""
RESULT = 32_000
"""Bytes of JSON after which hits are left to the next page."""
PROBLEMS = 60
"""Files listed by name in one status."""


def fit_search(result: SearchResult, offset: int, snippets: int = SNIPPETS) -> SearchResult:
    """Shorten snippets, then drop hits from the end, until the result fits; say what was done and how to get more.

    Args:
        result: The result.
        offset: Offset the hits began at, to name the next page.
        snippets: Characters all snippets may have together.
    """
    notices = list(result.notices)
    limit = _level([len(hit.snippet) for hit in result.hits], snippets)
    hits = [_shorten(hit, limit) for hit in result.hits]
    if hits != result.hits:
        notices.append(
            f"Snippets are shortened to {limit} characters to fit; read(path, locator) gives the whole passage, "
            "a smaller top_k longer snippets."
        )
    kept = _that_fit(hits)
    next_offset = result.next_offset
    if len(kept) < len(hits):
        next_offset = offset + len(kept)
        notices.append(
            f"Only {len(kept)} of {len(hits)} hits fit; ask again with offset={next_offset} for the others."
        )
    return result.model_copy(update={"hits": kept, "notices": notices, "next_offset": next_offset})


def fit_reading(result: ReadResult, max_chars: int) -> ReadResult:
    """Say how to go on when the text was cut."""
    if not result.truncated:
        return result
    more = f'go on with locator="{result.next}"' if result.next else "ask for a smaller place"
    note = f"Cut after {len(result.text):,} characters (at most {max_chars:,}); {more}."
    return result.model_copy(update={"notices": [*result.notices, note]})


def fit_status(status: Status) -> Status:
    """Name at most ``PROBLEMS`` files in all folders together, and folders that fit; say how many were left out."""
    return _fit_folders(_fit_problems(status))


def _fit_folders(status: Status) -> Status:
    """Keep the folders that fit, those with something going on or wrong before those that are just there."""
    calm = [folder.state == "ready" and not folder.files.failed for folder in status.folders]
    kept: set[int] = set()
    size = 0
    for place in sorted(range(len(calm)), key=lambda place: calm[place]):
        size += len(record(FolderStatus).of(status.folders[place]).model_dump_json().encode())
        if size > RESULT and kept:
            break
        kept.add(place)
    left = len(calm) - len(kept)
    if not left:
        return status
    what = "all ready" if all(calm[place] for place in range(len(calm)) if place not in kept) else "not all ready"
    note = f"{left} more folders are not listed here ({what}); `folder-mcp status --json` lists them all."
    folders = tuple(folder for place, folder in enumerate(status.folders) if place in kept)
    return replace(status, folders=folders, notices=(*status.notices, note))


def _fit_problems(status: Status) -> Status:
    left, folders, dropped = PROBLEMS, [], 0
    for folder in status.folders:
        shown = folder.problems[:left]
        left -= len(shown)
        dropped += len(folder.problems) - len(shown)
        folders.append(replace(folder, problems=shown))
    if not dropped:
        return status
    note = f"{dropped} more files are not listed here; `folder-mcp status -v --json` lists them all."
    return replace(status, folders=tuple(folders), notices=(*status.notices, note))


def _level(lengths: list[int], total: int) -> int:
    """Return the largest length such that lengths cut to it sum up to ``total``, at least ``SNIPPET_FLOOR``."""
    left, share = total, 0
    for place, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - place)
        if length > share:
            return max(share, SNIPPET_FLOOR)
        left -= length
    return max(max(lengths, default=0), SNIPPET_FLOOR)


def _shorten(hit: HitRecord, limit: int) -> HitRecord:
    if len(hit.snippet) <= limit:
        return hit
    return hit.model_copy(update={"snippet": hit.snippet[: limit - 2].rstrip() + " …"})


def _that_fit(hits: list[HitRecord]) -> list[HitRecord]:
    size = 0
    for place, hit in enumerate(hits):
        size += len(hit.model_dump_json().encode())
        if size > RESULT and place:
            return hits[:place]
    return hits
