"""What has to be read and written: a part of a folder scanned and compared with the index, and one file prepared."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from anyio import to_thread

from indexer.documents.pool import Parsers
from indexer.documents.secret_policy import SecretPolicy, blank_path, may_hold_secrets
from indexer.documents.worker_protocol import ChunkRequest, PreparedFile, chunk_document
from indexer.errors import FolderError
from indexer.files.open_inside import open_file
from indexer.files.walk import Skipped, stat_file, walk
from indexer.folders.state import LiveFolder
from indexer.text.structure import LANGUAGES
from indexer.types import File, FileRow, FileWrite, is_other_file

# Scanning the disk --------------------------------------------------------------------------------------------------


def scan_paths(folder: LiveFolder, paths: tuple[str, ...], had_files: bool) -> tuple[list[File], list[Skipped]]:
    """Find the files at and below some paths of a folder. Blocking: call it in a worker thread.

    Args:
        folder: The folder.
        paths: Files or directories of it, perhaps gone; the folder's own path means all of it.
        had_files: Whether the index has files of this folder.

    Raises:
        FolderError: The folder itself cannot be reached, or has nothing in it any more.
    """
    files: dict[str, File] = {}
    skipped: dict[str, Skipped] = {}
    for path in paths:
        if path == folder.path or os.path.isdir(path):
            entries = walk(folder.path, folder.ignore, path)
        else:
            entry = stat_file(path, folder.path, folder.ignore)
            entries = iter(() if entry is None else (entry,))
        for entry in entries:
            if isinstance(entry, File):
                files[entry.path] = entry
            else:
                skipped[entry.path] = entry
    _check_mounted(folder.path, had_files)
    for entry in _refused(folder.path, files, skipped, folder.model.secrets):
        files.pop(entry.path, None)
        skipped.pop(entry.path, None)
        shown = Skipped(blank_path(entry.path), entry.reason, entry.kind)
        skipped[shown.path] = shown
    return list(files.values()), list(skipped.values())


_PATHS_AT_ONCE = 2000
"""Paths searched for secrets together, so that one with a secret costs a search of few others one by one."""
_ZIP = b"PK\x03\x04"


def _refused(
    root: str, files: Mapping[str, File], skipped: Mapping[str, Skipped], secrets: SecretPolicy
) -> list[Skipped]:
    """What the walk could not tell: paths that hold a secret, and Keynote files, which are named as keys are."""
    found = []
    paths = [*files, *skipped]
    for first in range(0, len(paths), _PATHS_AT_ONCE):
        some = paths[first : first + _PATHS_AT_ONCE]
        for path in some if may_hold_secrets(some) else ():
            if named := secrets.in_path(root, path):
                reason = f"its name holds a secret ({named[0].kind}); rename it, or allow it in [secrets]"
                found.append(Skipped(path, reason, "secret"))
    for entry in skipped.values():
        if entry.kind == "secret" and entry.path.lower().endswith(".key") and _begins_with(entry.path, root, _ZIP):
            found.append(Skipped(entry.path, "Keynote presentations cannot be read", "unsupported"))
    return found


def _begins_with(path: str, root: str, magic: bytes) -> bool:
    try:
        with open_file(path, root) as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False


def blanked_sentence(kinds: Sequence[str]) -> str:
    """How many secrets of a file are blanked, and which; empty for none."""
    if not kinds:
        return ""
    counts = ", ".join(f"{count} × {kind}" if count > 1 else kind for kind, count in Counter(kinds).most_common())
    return f"{len(kinds)} secret{'s' * (len(kinds) > 1)} blanked ({counts})"


def _check_mounted(root: str, had_files: bool) -> None:
    """Refuse to take files for deleted when their disk may only not be mounted, which leaves an empty root.

    Raises:
        FolderError: The root is gone, or empty although it had files.
    """
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise FolderError(f"{root} cannot be reached: {error.strerror}") from error
    if empty and had_files:
        raise FolderError(f"{root} is empty; if its disk is not mounted, mount it, otherwise remove the folder")


# Comparing with the index -------------------------------------------------------------------------------------------

ATTEMPTS = 2
"""A file that failed is read once more at the next scan, then only after it changed."""


@dataclass(frozen=True, slots=True)
class FolderChanges:
    """How a scanned part of a folder differs from the index.

    Attributes:
        read: Files to read and hash: new ones, ones whose size or time differs, ones indexed by another recipe.
        missing: Paths in the manifest that the scan did not find.
        unchanged: How many files needed nothing; none of them was opened.
    """

    read: tuple[File, ...]
    missing: tuple[str, ...]
    unchanged: int


def find_changes(
    found: Iterable[File],
    skipped: Set[str],
    known: Mapping[str, FileRow],
    recipe: str,
    forced: Set[str] = frozenset(),
) -> FolderChanges:
    """Compare what a scan found with the index's rows of the same part of the folder. Call it in a worker thread.

    Args:
        found: Files the scan found.
        skipped: Paths it skipped with a reason (the caller keeps their rows up to date).
        known: Rows of that part of the folder by path.
        recipe: Stamp of the present chunker and tokens; rows made by another are read again.
        forced: Paths to read whatever their size and time say.
    """
    read: list[File] = []
    unchanged = 0
    missing = dict.fromkeys(known)
    usable: dict[str, bool] = {}  # by recipe, of which there are few
    for file in found:
        missing.pop(file.path, None)
        row = known.get(file.path)
        if row is not None and row.recipe not in usable:
            # A row without a recipe was skipped by an earlier scan; this one lets the file through.
            usable[row.recipe] = bool(row.recipe) and same_recipe(row.recipe, recipe)
        if row is None or file.path in forced or _differs(file, row) or _must_reread(row, usable[row.recipe]):
            read.append(file)
        else:
            unchanged += 1
    return FolderChanges(tuple(read), tuple(path for path in missing if path not in skipped), unchanged)


def _differs(file: File, row: FileRow) -> bool:
    if file.size != row.size or file.mtime_ns != row.mtime_ns or file.folder != row.folder:
        return True
    return is_other_file(file.inode, row.inode)


def _must_reread(row: FileRow, usable: bool) -> bool:
    """Whether a file that has not changed is read all the same."""
    return row.attempts < ATTEMPTS if row.outcome == "failed" else not usable


def same_recipe(made: str, present: str) -> bool:
    """Whether chunks made by one recipe can be used with another: everything but the tokenizer must be equal.

    The tokenizer's part (the last word) may differ: the embedding pass counts such chunks with the new
    tokenizer and sends back only files that no longer fit, so that a change of model re-embeds without parsing.
    """
    return made.rpartition(" ")[0] == present.rpartition(" ")[0]


# Preparing a file ---------------------------------------------------------------------------------------------------

SMALL_BYTES = 200_000
"""A file of this size is read sooner in this process than in one that must be started first (about a second)."""


def cut_order(folder: LiveFolder, file: File, known: FileRow | None, *, forced: bool) -> ChunkRequest:
    """How a parser process cuts a file; it does not when the content is the one that is indexed by this recipe."""
    tokens = folder.model.tokens
    indexed = known is not None and known.outcome == "indexed" and bool(known.recipe)
    same = known.sha256 if known and indexed and not forced and same_recipe(known.recipe, folder.model.recipe) else ""
    return ChunkRequest(tokens.path, tokens.limit, tokens.stamp, os.path.relpath(file.path, folder.path), same)


async def prepare_file(
    parsers: Parsers, folder: LiveFolder, file: File, order: ChunkRequest, *, few_files: bool
) -> PreparedFile:
    """Read and cut a file: in a parser process, or in a thread of this one where there is none.

    Args:
        parsers: The pool.
        folder: The file's folder.
        file: What to read.
        order: How to cut it.
        few_files: Hardly anything else is to be read, so no process is started for a small file.

    Raises:
        ParseSkipped, LibraryMissing, ParseFailed, ParserDied, ParsersUnavailable: As ``Parsers.parse``.
    """
    read_here = few_files and parsers.no_process and file.size <= SMALL_BYTES
    if not read_here and (prepared := await parsers.prepare(file, order)) is not None:
        return prepared
    parsed = await parsers.parse(file)
    document, again = parsed.document, False
    if document.syntax in LANGUAGES:
        # The grammars are C code: what strangers wrote is given to them in a confined process, or not at all.
        if read_here and (prepared := await parsers.prepare(file, order)) is not None:
            return prepared
        document, again = replace(document, syntax="text"), not parsers.never_chunks
    cut = None
    if not order.known_sha256 or parsed.sha256 != order.known_sha256:
        cut = await to_thread.run_sync(chunk_document, document, folder.model.tokens, order.limit, order.name)
    return PreparedFile(document.parser, parsed.sha256, parsed.size, parsed.mtime_ns, parsed.inode, cut, again)


# What to write ------------------------------------------------------------------------------------------------------


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
        inode=file.inode,
    )


def skipped_row(folder: LiveFolder, skipped: Skipped, known: FileRow | None) -> FileRow | None:
    """The row of a file that the scan skipped; None when the index has it already."""
    if known is not None and (known.outcome, known.reason) == ("skipped", skipped.reason):
        return None
    return FileRow(skipped.path, folder.path, 0, 0, "", "", "", "skipped", skipped.reason, 0, 0, time.time())


def index_entry(blank: FileRow, known: FileRow | None, prepared: PreparedFile) -> FileWrite | FileRow:
    """What to write of a prepared file: all of it, or only its row's size and time where its content is as before."""
    if prepared.chunked is None:
        assert known is not None, "nothing was known of the file, so its content cannot be the same"
        return replace(known, size=prepared.size, mtime_ns=prepared.mtime_ns, inode=prepared.inode)
    chunks = prepared.chunked.chunks
    row = replace(
        blank,
        size=prepared.size,
        mtime_ns=prepared.mtime_ns,
        sha256=prepared.sha256,
        parser=prepared.parser,
        recipe="" if prepared.again else blank.recipe,
        outcome="indexed",
        reason=blanked_sentence(prepared.chunked.secrets),
        chunks=len(chunks),
        language=prepared.chunked.language,
        inode=prepared.inode,
    )
    return FileWrite(row, chunks, prepared.chunked.tokens, prepared.chunked.reach)


def is_unchanged(known: FileRow, found: FileRow) -> bool:
    """Whether the row of a file that was not indexed says what it said: nothing to write."""
    return replace(found, attempts=known.attempts, indexed_at=known.indexed_at) == known


def row_count(entry: FileWrite | FileRow) -> int:
    """How many rows of the index an entry becomes."""
    return 1 + len(entry.chunks) if isinstance(entry, FileWrite) else 1
