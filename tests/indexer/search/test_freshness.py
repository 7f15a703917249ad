"""A page of hits against real files: gone, changed, and changed while the search was under way."""

from __future__ import annotations

from pathlib import Path

from indexer.documents.secret_policy import SecretPolicy
from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.search.fusion import RankedChunk
from indexer.search.hits import check_files
from indexer.types import FileRow, Query, StoredChunk


def row_of(file: Path) -> FileRow:
    """The row of a file as it is on the disk now."""
    stat = file.stat()
    folder = str(file.parent)
    return FileRow(str(file), folder, stat.st_size, stat.st_mtime_ns, "", "", "", "indexed", "", 1, 0, 0.0)


def stale(file: Path, manifest: Manifest, version: int) -> tuple[bool, list[str]]:
    """Whether a hit of the file is marked, and which files are to be looked at again."""
    again: list[str] = []
    chunk = StoredChunk("0", str(file), str(file.parent), 0, "text", "", "lines 1-1", "0")
    page, _ = check_files(
        [RankedChunk(chunk, 1.0, ("keyword",))],
        Query("text"),
        manifest,
        Folders(),
        lambda _, path: again.append(path),
        version,
    )
    return page[0].stale, again


def test_a_file_as_it_was_indexed_is_not_marked(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text", encoding="utf-8")
    manifest = Manifest([row_of(file)])
    assert stale(file, manifest, manifest.version) == (False, [])


def test_an_edited_file_is_marked_and_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text", encoding="utf-8")
    manifest = Manifest([row_of(file)])
    file.write_text("other text", encoding="utf-8")
    assert stale(file, manifest, manifest.version) == (True, [str(file)])


def test_a_file_that_was_indexed_again_while_the_search_was_under_way_is_marked(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text", encoding="utf-8")
    manifest = Manifest([row_of(file)])
    version = manifest.version  # the search begins here; its hit is from before the edit
    file.write_text("other text", encoding="utf-8")
    manifest.put(row_of(file))
    assert stale(file, manifest, version)[0]
    assert not stale(file, manifest, manifest.version)[0]


def test_a_file_that_went_and_came_back_while_the_search_was_under_way_is_marked(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("other text", encoding="utf-8")
    manifest = Manifest([row_of(file)])
    version = manifest.version
    manifest.drop(str(tmp_path), str(file))
    manifest.put(row_of(file))
    assert stale(file, manifest, version)[0]


def test_a_file_whose_name_holds_a_secret_is_no_hit_although_an_earlier_program_indexed_it(tmp_path: Path) -> None:
    token = "gh" + "p_" + "a1B2" * 9
    file = tmp_path / f"{token}.txt"
    file.write_text("text", encoding="utf-8")
    manifest = Manifest([row_of(file)])
    chunk = StoredChunk("0", str(file), str(file.parent), 0, "text", "", "lines 1-1", "0")
    for policy, shown in ((SecretPolicy(), 0), (SecretPolicy(patterns=("ghp_.*",)), 1)):
        again: list[str] = []
        ranking = [RankedChunk(chunk, 1.0, ("keyword",))]
        page, _ = check_files(
            ranking,
            Query("text"),
            manifest,
            Folders(),
            lambda _, path, again=again: again.append(path),  # type: ignore[misc]
            manifest.version,
            policy,
        )
        assert (len(page), len(again)) == (shown, 1 - shown)
