"""A ranking to the hits that a client gets: files checked on disk, passages with their neighbours, snippets cut.

The disk is the truth: a hit whose file is gone is dropped, and one whose file has changed is marked, queued, and shown
as the file is now where that is cheap and safe. The functions here block, but for ``passages``: call them in a worker
thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from indexer.documents.formats import by_name
from indexer.documents.parse import ParseLimits, parse_if_plain
from indexer.documents.secret_policy import BLANK_ALL, SecretPolicy
from indexer.errors import ParseFailed
from indexer.files.open_inside import stat_inside
from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.search.fusion import RankedChunk
from indexer.text.language import detect
from indexer.text.secrets import Allowed, blank
from indexer.text.tokens import matches
from indexer.types import (
    Document,
    File,
    FileRow,
    Hit,
    Locator,
    Query,
    StoredChunk,
    Unit,
    is_other_file,
    parse_stored,
    signed_inode,
)

if TYPE_CHECKING:
    from indexer.store.store import Store

SNIPPET_CHARS = 700
"""About a screenful: enough to judge a hit; eight of them fit the size limits of every client."""
MIN_SNIPPET_CHARS = 100
"""A shorter snippet says too little: a small budget shows fewer hits rather than shreds."""


@dataclass(frozen=True, slots=True)
class CheckedHit:
    """A hit whose file was looked at on disk.

    Attributes:
        modified: The file's modification time, seconds since the epoch.
        stale: The file differs from what was indexed.
    """

    ranked: RankedChunk
    modified: float
    stale: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """The text of a hit before it is cut, and where it stands."""

    locator: str
    text: str


def make_hits(
    checked: Sequence[CheckedHit],
    texts: Sequence[Passage],
    tokens: Sequence[str],
    query: Query,
    secrets: SecretPolicy = BLANK_ALL,
) -> list[Hit]:
    """Cut passages to hits; those of changed text files are read again.

    Secrets are blanked here once more: rows of an earlier program hold some until their file is read again.

    Without ``query.max_chars`` every hit has ``SNIPPET_CHARS``, more when neighbours were asked for. With it the hits
    share that many characters; those that would have fewer than ``MIN_SNIPPET_CHARS`` are left out, from the end.
    """
    changed = ChangedFiles()
    shown = [secrets.shown_in(hit.ranked.chunk.folder, hit.ranked.chunk.path) for hit in checked]
    texts = [
        (changed.relocate(hit.ranked.chunk.path, hit.ranked.chunk.folder, passage, allowed) if hit.stale else None)
        or Passage(passage.locator, _blanked(passage.text, hit.ranked.chunk.path, allowed))
        for hit, passage, allowed in zip(checked, texts, shown, strict=True)
    ]
    limit = SNIPPET_CHARS * (1 + 2 * query.context)
    if query.max_chars is not None:
        texts = texts[: max(1, query.max_chars // MIN_SNIPPET_CHARS)]
        limit = equal_share([len(passage.text) for passage in texts], query.max_chars)
    return [
        Hit(
            path=hit.ranked.chunk.path,
            folder=hit.ranked.chunk.folder,
            locator=passage.locator,
            heading=blank(hit.ranked.chunk.heading, allowed).text,
            snippet=snippet(passage.text, tokens, limit),
            score=hit.ranked.score,
            matched=hit.ranked.matched,
            modified=hit.modified,
            stale=hit.stale,
            folded=hit.ranked.folded,
        )
        for hit, passage, allowed in zip(checked, texts, shown, strict=False)
    ]


def _blanked(text: str, path: str, allowed: Allowed) -> str:
    named = by_name(path)
    return blank(text, allowed, syntax=named.syntax if named else "").text


def equal_share(lengths: Sequence[int], total: int) -> int:
    """The largest length such that texts cut to it have ``total`` characters together; the longest when all fit."""
    left, share = total, 0
    for shorter, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - shorter)
        if length > share:
            return share
        left -= length
    return max(lengths, default=total)


# The files on disk --------------------------------------------------------------------------------------------------


def check_files(
    ranking: Sequence[RankedChunk],
    query: Query,
    manifest: Manifest,
    folders: Folders,
    rescan: Callable[[str, str], None],
    version: int,
    secrets: SecretPolicy = BLANK_ALL,
) -> tuple[list[CheckedHit], bool]:
    """Cut the page that the query asks for out of a ranking: drop hits whose file is gone, mark those that changed.

    Also dropped are files whose names hold a secret: rows of an earlier program, until the next scan.

    Args:
        ranking: Best first.
        query: Says which page.
        manifest: What the index knows of the files.
        folders: The folders; a folder that cannot be reached keeps its hits.
        rescan: Called with folder and path of every file that is gone or changed.
        version: That of the manifest before the index was asked: a file whose row is newer counts as changed, since
            its hit may be from before.
        secrets: Which secrets may stand in a path.

    Returns:
        The page, and whether there are more hits after it.
    """
    page: list[CheckedHit] = []
    passed = 0
    for ranked in ranking:
        chunk = ranked.chunk
        checked = _check_file(ranked, manifest.row(chunk.folder, chunk.path), folders)
        if checked is not None and (_is_unreadable(chunk.path) or secrets.in_path(chunk.folder, chunk.path)):
            checked = None
        if checked and manifest.changed_since(version, chunk.path):
            checked = CheckedHit(ranked, checked.modified, stale=True)
        if checked is None or checked.stale:
            rescan(chunk.folder, chunk.path)
        if checked is None:
            continue
        passed += 1
        if passed <= query.offset:
            continue
        if len(page) == query.top_k:
            return page, True
        page.append(checked)
    return page, False


def _check_file(ranked: RankedChunk, row: FileRow | None, folders: Folders) -> CheckedHit | None:
    """Compare a hit's file with its row; None when there is nothing left to cite."""
    chunk = ranked.chunk
    try:
        found = stat_inside(chunk.path, chunk.folder)
    except OSError:
        folder = folders.get(chunk.folder)
        if folder is not None and folder.available and os.path.isdir(folder.path):
            return None
        # The whole folder is away: its disk is not mounted, the file is not deleted.
        return CheckedHit(ranked, row.mtime_ns / 1e9 if row else 0.0, stale=True)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None
    stale = (
        row is None
        or (row.size, row.mtime_ns) != (found.st_size, found.st_mtime_ns)
        or is_other_file(signed_inode(found), row.inode)
    )
    return CheckedHit(ranked, found.st_mtime, stale)


def _is_unreadable(path: str) -> bool:
    """Whether a file is there and the user may not read it: what was indexed must not outlive the right to read it."""
    may = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    return not may and os.path.lexists(path)


# Passages -----------------------------------------------------------------------------------------------------------


async def passages(store: Store, checked: Sequence[CheckedHit], context: int) -> list[Passage]:
    """The hits' passages, each with up to ``context`` chunks of the same unit before and after it.

    No text is given twice: neighbours end where another hit of the answer, or its neighbours, begin.

    Raises:
        StoreError: The index cannot be read.
    """
    if not context:
        return [Passage(hit.ranked.chunk.locator, hit.ranked.chunk.text) for hit in checked]
    used = {(hit.ranked.chunk.path, hit.ranked.chunk.ordinal) for hit in checked}
    out = []
    for hit in checked:
        chunk = hit.ranked.chunk
        near = await store.chunks_between(chunk.path, chunk.ordinal - context, chunk.ordinal + context)
        run = _with_neighbours(chunk, {other.ordinal: other for other in near}, used)
        used.update((other.path, other.ordinal) for other in run)
        out.append(_joined(run, chunk))
    return out


def _with_neighbours(
    chunk: StoredChunk, near: dict[int, StoredChunk], used: set[tuple[str, int]]
) -> list[StoredChunk]:
    """The chunk and its neighbours in order, as far as they exist, are not used yet, and are of the same unit."""
    unit = _unit(chunk)
    run = [chunk]
    for step in (-1, 1):
        at = chunk.ordinal + step
        while at in near and (chunk.path, at) not in used and _unit(near[at]) == unit is not None:
            run.append(near[at])
            at += step
    return sorted(run, key=lambda each: each.ordinal)


def _unit(chunk: StoredChunk) -> tuple[str, str] | None:
    locator = parse_stored(chunk.locator)  # None, from another version, has no neighbours
    return (locator.kind, locator.unit) if locator is not None else None


def _joined(run: Sequence[StoredChunk], chunk: StoredChunk) -> Passage:
    """The chunks' text in one piece, with the line ends that stood between them, and the locator of all."""
    locators = [locator for each in run if (locator := parse_stored(each.locator)) is not None]
    if len(run) == 1 or len(locators) != len(run):
        return Passage(chunk.locator, chunk.text)
    text = run[0].text
    for before, after, other in zip(locators, locators[1:], run[1:], strict=False):
        text += ("\n" * min(2, after.start - before.end) if after.start > before.end else " ") + other.text
    first = locators[0]
    return Passage(str(Locator(first.kind, first.unit, first.start, locators[-1].end)), text)


# Passages of changed files ------------------------------------------------------------------------------------------

MAX_FILE_BYTES = 1_000_000
"""Larger files are not read while a client waits for an answer."""
MAX_ANSWER_BYTES = 4_000_000
"""Bytes read for one answer at most: decoding takes about 10 ms a megabyte."""
_COMMON_LINE = 20
"""A line that stands more often than this (a bracket, a rule) does not say where a passage went."""


class ChangedFiles:
    """The changed text files of one answer, each read at most once."""

    def __init__(self) -> None:
        self._documents: dict[str, Document | None] = {}
        self._bytes_left = MAX_ANSWER_BYTES

    def relocate(self, path: str, folder: str, passage: Passage, shown: Allowed = ()) -> Passage | None:
        """Find a passage in the file as it is now, or what stands in its place.

        Lines of the passage that still stand somewhere say by how many lines it has moved.

        Args:
            path: The file, absolute.
            folder: The root that it is below.
            passage: The passage as it was indexed.
            shown: Which secrets of the file are not blanked.

        Returns:
            None when it cannot be found cheaply and safely: the file is not plain text, large, or unreadable.
        """
        if path not in self._documents:
            self._documents[path] = self._read(path, folder, shown)
        document, locator = self._documents[path], parse_stored(passage.locator)
        if document is None or locator is None:
            return None
        unit = next((u for u in document.units if (u.kind, u.name) == (locator.kind, locator.unit)), None)
        return None if unit is None else _relocated(unit, locator, passage.text)

    def _read(self, path: str, folder: str, shown: Allowed) -> Document | None:
        limits = ParseLimits(max_bytes=min(MAX_FILE_BYTES, self._bytes_left), shown_secrets=shown)
        try:
            parsed = parse_if_plain(File(path, folder, 0, 0), limits)
        except ParseFailed:
            return None
        if parsed is None:
            return None
        self._bytes_left -= parsed.size
        return parsed.document


def _relocated(unit: Unit, locator: Locator, indexed: str) -> Passage:
    """The span of lines of the unit that the indexed text has become; it never reaches past the end."""
    lines = unit.text.removesuffix("\n").split("\n")
    first = max(locator.start, 1)
    length = locator.end - locator.start if locator.start else len(lines) - 1
    start = max(1, min(first + _line_shift(lines, indexed.split("\n"), first), len(lines)))
    end = min(start + length, len(lines))
    text = "\n".join(line.removesuffix("\r") for line in lines[start - 1 : end])
    return Passage(str(Locator(unit.kind, unit.name, start, end)), text)


def _line_shift(lines: Sequence[str], indexed: Sequence[str], first: int) -> int:
    """By how many lines the passage has moved: the shift of most of its lines, the smallest one among equals."""
    before: dict[str, list[int]] = {}
    for number, line in enumerate(indexed, first):
        if line.strip():
            before.setdefault(line.strip(), []).append(number)
    now: dict[str, list[int]] = {line: [] for line in before}
    for number, line in enumerate(lines, 1):
        if (found := now.get(line.strip())) is not None and len(found) <= _COMMON_LINE:
            found.append(number)
    shifts = Counter(
        new - old
        for line, numbers in before.items()
        for old in numbers[:_COMMON_LINE]
        for new in now[line]
        if len(now[line]) <= _COMMON_LINE
    )
    return min(shifts, key=lambda shift: (-shifts[shift], abs(shift)), default=0)


# Snippets -----------------------------------------------------------------------------------------------------------

ELLIPSIS = "…"
# C0 and C1 controls except tab and newline, bidirectional controls, zero-width characters, tags, lone surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef]"
)
_KEPT_JOINER = re.compile("(?<=[\u0600-\u06ff\u0900-\u0dff\u1000-\u109f\U0001f000-\U0001faff\ufe0f])\u200d|"
                          "(?<=[\u0600-\u06ff\u0900-\u0dff])\u200c")  # fmt: skip
_BORDER = re.compile(r"\n+|(?<=[.!?…:;])[ \t]+(?=\S)|(?<=[。！？；])|(?<=।)\s*")
_BLANK_LINES = re.compile(r"\n{3,}")
_MAX_PIECE = 200


def strip_hidden(text: str) -> str:
    """``text`` without characters that hide or reorder what a reader or a model sees; line ends as newlines.

    Zero-width joiners stay where a script or an emoji needs them.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    kept = {match.start() for match in _KEPT_JOINER.finditer(text)}
    return _HIDDEN.sub(lambda match: match[0] if match.start() in kept else "", text)


def snippet(text: str, query_tokens: Collection[str], budget_chars: int) -> str:
    """Cut the part of a text that best matches a query: at most ``budget_chars`` characters, ellipses included.

    It is the run of whole lines or sentences within the budget that has the most different tokens of the query, then
    the most occurrences, with the match in its middle; without a match, the beginning. Hidden characters are removed.

    Args:
        text: The passage.
        query_tokens: What the query asks for, as ``text.tokens.query_tokens`` gives it.
        budget_chars: Longest answer, in characters; at least 16.
    """
    text = _BLANK_LINES.sub("\n\n", strip_hidden(text)).strip()
    if len(text) <= budget_chars:
        return text
    budget = max(budget_chars, 16) - 2 * len(ELLIPSIS)
    pieces = _pieces(text, budget)
    first, last = _best_run(text, pieces, frozenset(query_tokens), budget)
    start, end = pieces[first][0], pieces[last][1]
    passage = text[start:end].strip()
    return f"{ELLIPSIS if start else ''}{passage}{ELLIPSIS if end < len(text) else ''}"


def _pieces(text: str, budget: int) -> list[tuple[int, int]]:
    """Spans of the text's lines and sentences; those too long are cut at spaces, at worst inside a word."""
    longest = max(8, min(_MAX_PIECE, budget))
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


def _best_run(text: str, pieces: list[tuple[int, int]], tokens: frozenset[str], budget: int) -> tuple[int, int]:
    """Indexes of the first and last piece of the best run that fits the budget."""
    language = detect(text)
    found = [matches(text[start:end], tokens, language) for start, end in pieces]
    runs: list[tuple[int, int, int, int]] = []
    last = 0
    for first in range(len(pieces)):
        last = max(last, first)
        while last + 1 < len(pieces) and pieces[last + 1][1] - pieces[first][0] <= budget:
            last += 1
        inside = [token for tokens_here in found[first : last + 1] for token in tokens_here]
        runs.append((len(set(inside)), len(inside), first, last))
    most = max(run[:2] for run in runs)
    equal = [run for run in runs if run[:2] == most]
    together = [run for run in equal if run[2] <= equal[0][3]]
    return (together[len(together) // 2] if most[0] else equal[0])[2:]
