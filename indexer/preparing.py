"""A parsed file made ready for the index: its row, its chunks, the words the keyword index sees."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from indexer.changes import same_recipe
from indexer.folder import LiveFolder
from indexer.text.chunk import chunk
from indexer.text.language import detect
from indexer.text.parse import Parsed
from indexer.text.secrets import redacted
from indexer.text.words import tokens
from indexer.types import File, FileRow, FileWrite


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


def same_content(known: FileRow, parsed: Parsed, folder: LiveFolder) -> bool:
    """Whether only the file's time changed: its chunks and vectors then stay as they are."""
    made_alike = bool(known.recipe) and same_recipe(known.recipe, folder.model.recipe)
    return known.outcome == "indexed" and known.sha256 == parsed.sha256 and made_alike


def as_before(known: FileRow, found: FileRow) -> bool:
    """Whether a file that was not indexed stands as it stood: nothing to write."""
    return replace(found, attempts=known.attempts, indexed_at=known.indexed_at) == known


def weight(entry: FileWrite | FileRow) -> int:
    """How many rows of the index an entry becomes."""
    return 1 + len(entry.chunks) if isinstance(entry, FileWrite) else 1


def prepare(folder: LiveFolder, blank: FileRow, parsed: Parsed) -> FileWrite:
    """A parsed file to its row, chunks and search tokens. CPU work: runs in a thread."""
    document = parsed.document
    chunks, dropped = redacted(chunk(document, folder.model.tokens, folder.model.tokens.limit))
    name = os.path.relpath(blank.path, folder.path)
    language = detect("\n".join(c.text for c in chunks[:8]))
    words = tuple(tokens(c.text, c.heading, name, language) for c in chunks)
    row = replace(
        blank,
        size=parsed.size,
        mtime_ns=parsed.mtime_ns,
        sha256=parsed.sha256,
        parser=document.parser,
        outcome="indexed",
        reason=f"{dropped} passages with secrets left out" if dropped else "",
        chunks=len(chunks),
        language=language,
    )
    return FileWrite(row, tuple(chunks), words)
