from __future__ import annotations

from typing import cast

from indexer.folders.state import LiveFolder
from indexer.indexing.changes import FolderChanges
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import ScanRequest
from indexer.indexing.text_pass import FEW_FILES, FolderScan
from indexer.types import File, FileRow


class Folder:
    path = "/notes"


def row(name: str, size: int = 1) -> FileRow:
    return FileRow(f"/notes/{name}", "/notes", size, 1, "ab", "plain/1", "r", "indexed", "", 1, 0, 1.0)


def scan(manifest: Manifest, *, missing: tuple[str, ...] = (), read: int = 0) -> FolderScan:
    files = tuple(File(f"/notes/{n}", "/notes", 1, 1) for n in range(read))
    known = manifest.below("/notes", "/notes")
    return FolderScan.of(cast("LiveFolder", Folder()), ScanRequest("/notes"), FolderChanges(files, missing, 0), known)


def test_a_file_that_came_back_while_the_scan_waited_is_not_taken_out() -> None:
    manifest = Manifest([row("a"), row("b"), row("c")])
    waiting = scan(manifest, missing=("/notes/a", "/notes/b", "/notes/c"))
    manifest.put(row("b", size=2))
    manifest.drop("/notes", "/notes/c")
    assert waiting.still_missing(manifest) == ["/notes/a"]


def test_hardly_any_files_is_told_by_what_there_was_at_the_start() -> None:
    started = scan(Manifest(), read=FEW_FILES + 1)
    started.files.popleft()
    assert not started.few_files
    assert scan(Manifest(), read=FEW_FILES).few_files
