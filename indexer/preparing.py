"""A file made ready for the index: read and cut in a parser process where possible, and its row."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from anyio import to_thread

from indexer.changes import same_recipe
from indexer.documents.pool import Parsers
from indexer.documents.worker_protocol import CutOrder, Prepared, ready
from indexer.folder import LiveFolder
from indexer.types import File, FileRow, FileWrite

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


def order_of(folder: LiveFolder, file: File, known: FileRow | None, *, forced: bool) -> CutOrder:
    """How a file is to be cut; not at all if its content is what is known of it and was cut alike."""
    tokens = folder.model.tokens
    alike = known is not None and known.outcome == "indexed" and bool(known.recipe)
    same = known.sha256 if known and alike and not forced and same_recipe(known.recipe, folder.model.recipe) else ""
    return CutOrder(tokens.path, tokens.limit, tokens.stamp, os.path.relpath(file.path, folder.path), same)


async def prepared(parsers: Parsers, folder: LiveFolder, file: File, order: CutOrder, *, few: bool) -> Prepared:
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
    if not (few and parsers.cold and file.size <= SMALL):
        made = await parsers.prepare(file, order)
        if made is not None:
            return made
    parsed = await parsers.parse(file)
    document = parsed.document
    made_here = None
    if not order.unless or parsed.sha256 != order.unless:
        made_here = await to_thread.run_sync(ready, document, folder.model.tokens, order.limit, order.name)
    return Prepared(document.parser, parsed.sha256, parsed.size, parsed.mtime_ns, made_here)


def as_before(known: FileRow, found: FileRow) -> bool:
    """Whether a file that was not indexed stands as it stood: nothing to write."""
    return replace(found, attempts=known.attempts, indexed_at=known.indexed_at) == known


def weight(entry: FileWrite | FileRow) -> int:
    """How many rows of the index an entry becomes."""
    return 1 + len(entry.chunks) if isinstance(entry, FileWrite) else 1


def write_of(blank: FileRow, known: FileRow | None, made: Prepared) -> FileWrite | FileRow:
    """What to write of a file: all of it, or only its row's size and time where its content is as before."""
    if made.ready is None:
        assert known is not None, "nothing was known of the file, so its content cannot be the same"
        return replace(known, size=made.size, mtime_ns=made.mtime_ns)
    chunks, dropped = made.ready.chunks, made.ready.dropped
    row = replace(
        blank,
        size=made.size,
        mtime_ns=made.mtime_ns,
        sha256=made.sha256,
        parser=made.parser,
        outcome="indexed",
        reason=f"{dropped} passages with secrets left out" if dropped else "",
        chunks=len(chunks),
        language=made.ready.language,
    )
    return FileWrite(row, chunks, made.ready.tokens, made.ready.reach)
