"""Walk x manifest: which files to read, which rows to drop. Pure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from anyio import to_thread

from indexer.documents.pool import Parsers
from indexer.documents.worker_protocol import ChunkRequest, PreparedFile, chunk_document
from indexer.errors import FolderError
from indexer.files.walk import Skipped, stat_file, walk
from indexer.folders.state import LiveFolder
from indexer.types import File, FileRow, FileWrite

ATTEMPTS = 2
"""A file that failed is read once more at the next scan, then only after it changed."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a scan found to do.

    Attributes:
        read: Files to read and hash: new ones, ones whose size or time differs, ones read by another recipe.
        gone: Paths in the manifest that the walk did not meet.
        unchanged: How many files needed nothing; none of them was opened.
    """

    read: tuple[File, ...]
    gone: tuple[str, ...]
    unchanged: int


def compare(
    found: Iterable[File],
    refused: Set[str],
    known: Mapping[str, FileRow],
    recipe: str,
    forced: Set[str] = frozenset(),
) -> Changes:
    """Compare what a walk found with what the index knows of the same part of the tree. Runs in a thread.

    Args:
        found: Files the walk yielded.
        refused: Paths the walk refused with a reason (their rows are kept up to date by the caller).
        known: Rows of that part of the tree by path.
        recipe: Stamp of the present chunker and tokens; rows made by another are read again.
        forced: Paths to read whatever their size and time say.
    """
    read: list[File] = []
    unchanged = 0
    left = dict.fromkeys(known)
    recipes: dict[str, bool] = {}  # the few there are, and whether their chunks still do
    for file in found:
        left.pop(file.path, None)
        row = known.get(file.path)
        if row is not None and row.recipe not in recipes:
            # A row without a recipe was refused by the walk; the walk now lets the file through.
            recipes[row.recipe] = bool(row.recipe) and same_recipe(row.recipe, recipe)
        if row is None or file.path in forced or _differs(file, row) or _again(row, recipes[row.recipe]):
            read.append(file)
        else:
            unchanged += 1
    gone = tuple(path for path in left if path not in refused)
    return Changes(tuple(read), gone, unchanged)


def _differs(file: File, row: FileRow) -> bool:
    return file.size != row.size or file.mtime_ns != row.mtime_ns or file.folder != row.folder


def _again(row: FileRow, still_does: bool) -> bool:
    """Whether a file that has not changed is read all the same."""
    return row.attempts < ATTEMPTS if row.outcome == "failed" else not still_does


def same_recipe(made: str, present: str) -> bool:
    """Whether chunks made by one recipe still do for another: everything but the tokenizer must be equal.

    The tokenizer's part (the last word) may differ: the embedding pass counts such chunks with the new
    tokenizer and sends back only files that no longer fit, so that a change of model re-embeds without parsing.
    """
    return made.rpartition(" ")[0] == present.rpartition(" ")[0]


# Looking at the disk ------------------------------------------------------------------------------------------------
# Look at dirty paths: what the disk has there now. Blocking: for worker threads.


def look(folder: LiveFolder, targets: tuple[str, ...], had_files: bool) -> tuple[list[File], list[Skipped]]:
    """Walk the targets.

    Raises:
        FolderError: The folder itself cannot be reached, or has nothing in it any more.
    """
    files: dict[str, File] = {}
    refused: dict[str, Skipped] = {}
    for target in targets:
        if target == folder.path or os.path.isdir(target):
            entries = walk(folder.path, folder.ignore, target)
        else:
            entry = stat_file(target, folder.path, folder.ignore)
            entries = iter(() if entry is None else (entry,))
        for entry in entries:
            if isinstance(entry, File):
                files[entry.path] = entry
            else:
                refused[entry.path] = entry
    _check_there(folder.path, had_files)
    return list(files.values()), list(refused.values())


def refusal(folder: LiveFolder, skipped: Skipped, known: FileRow | None) -> FileRow | None:
    """The row of a file the walk refused; None when the index says so already."""
    if known is not None and (known.outcome, known.reason) == ("skipped", skipped.reason):
        return None
    return FileRow(skipped.path, folder.path, 0, 0, "", "", "", "skipped", skipped.reason, 0, 0, time.time())


def _check_there(root: str, had_files: bool) -> None:
    """Refuse to take files for deleted when the disk they are on may only not be mounted: an empty root is no news.

    Raises:
        FolderError: The root is gone or empty.
    """
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise FolderError(f"{root} cannot be reached: {error.strerror}") from error
    if empty and had_files:
        raise FolderError(f"{root} is empty; if its disk is not mounted, mount it, otherwise remove the folder")


# Preparing a file ---------------------------------------------------------------------------------------------------
# A file made ready for the index: read and cut in a parser process where possible, and its row.

SMALL = 200_000
"""Bytes of a file that is read sooner here than in a process that must be started first (about a second)."""


def blank_row(file: File, folder: LiveFolder, attempts: int) -> FileRow:
    """The row of a file that has not been read; ``attempts`` have failed before."""
    return FileRow(
        path=file.path,
        folder=folder.path,
        size=file.size,
        mtime_ns=file.mtime_ns,
        sha256="",
        parser="",
        recipe=folder.model.recipe,
        outcome="failed",
        reason="",
        chunks=0,
        attempts=attempts,
        indexed_at=time.time(),
    )


def order_of(folder: LiveFolder, file: File, known: FileRow | None, *, forced: bool) -> ChunkRequest:
    """How a file is to be cut; not at all if its content is what is known of it and was cut alike."""
    tokens = folder.model.tokens
    alike = known is not None and known.outcome == "indexed" and bool(known.recipe)
    same = known.sha256 if known and alike and not forced and same_recipe(known.recipe, folder.model.recipe) else ""
    return ChunkRequest(tokens.path, tokens.limit, tokens.stamp, os.path.relpath(file.path, folder.path), same)


async def prepared(
    parsers: Parsers, folder: LiveFolder, file: File, order: ChunkRequest, *, few: bool
) -> PreparedFile:
    """A file read and cut: in a parser process, or in a thread of this one where that is not to be had.

    Args:
        parsers: The pool.
        folder: Where the file lies.
        file: What to read.
        order: How to cut it.
        few: Hardly anything else is to be read: no process is started for a small file.

    Raises:
        ParseSkipped, LibraryMissing, ParseFailed, ParserDied, ParsersUnavailable: As ``Parsers.parse``.
    """
    if not (few and parsers.no_process and file.size <= SMALL):
        made = await parsers.prepare(file, order)
        if made is not None:
            return made
    parsed = await parsers.parse(file)
    document = parsed.document
    made_here = None
    if not order.known_sha256 or parsed.sha256 != order.known_sha256:
        made_here = await to_thread.run_sync(chunk_document, document, folder.model.tokens, order.limit, order.name)
    return PreparedFile(document.parser, parsed.sha256, parsed.size, parsed.mtime_ns, made_here)


def as_before(known: FileRow, found: FileRow) -> bool:
    """Whether a file that was not indexed stands as it stood: nothing to write."""
    return replace(found, attempts=known.attempts, indexed_at=known.indexed_at) == known


def weight(entry: FileWrite | FileRow) -> int:
    """How many rows of the index an entry becomes."""
    return 1 + len(entry.chunks) if isinstance(entry, FileWrite) else 1


def write_of(blank: FileRow, known: FileRow | None, made: PreparedFile) -> FileWrite | FileRow:
    """What to write of a file: all of it, or only its row's size and time where its content is as before."""
    if made.chunked is None:
        assert known is not None, "nothing was known of the file, so its content cannot be the same"
        return replace(known, size=made.size, mtime_ns=made.mtime_ns)
    chunks, dropped = made.chunked.chunks, made.chunked.dropped
    row = replace(
        blank,
        size=made.size,
        mtime_ns=made.mtime_ns,
        sha256=made.sha256,
        parser=made.parser,
        outcome="indexed",
        reason=f"{dropped} passages with secrets left out" if dropped else "",
        chunks=len(chunks),
        language=made.chunked.language,
    )
    return FileWrite(row, chunks, made.chunked.tokens, made.chunked.reach)
