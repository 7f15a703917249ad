from __future__ import annotations

from indexer.indexing.manifest import Manifest
from indexer.types import FileRow, Outcome


def row(path: str, outcome: Outcome = "indexed", folder: str = "/f") -> FileRow:
    return FileRow(path, folder, 1, 1, "", "", "", outcome, "" if outcome == "indexed" else "why", 0, 0, 0.0)


def test_counts_follow_every_change_of_outcome() -> None:
    manifest = Manifest([row("/f/a"), row("/f/b", "failed")])
    manifest.put(row("/f/b"))
    manifest.put(row("/f/c", "skipped"))
    manifest.drop("/f", "/f/a")
    manifest.drop("/f", "/f/never-there")
    assert [manifest.count("/f", o) for o in ("indexed", "failed", "skipped")] == [1, 0, 1]


def test_below_a_directory_is_not_what_only_starts_like_it() -> None:
    manifest = Manifest([row("/f/doc/a"), row("/f/docs"), row("/f/doc")])
    assert set(manifest.below("/f", "/f/doc")) == {"/f/doc/a", "/f/doc"}
    assert len(manifest.below("/f", "/f")) == 3


def test_problems_name_failures_before_skips() -> None:
    manifest = Manifest([row("/f/a", "skipped"), row("/f/z", "failed"), row("/f/b", "failed"), row("/f/ok")])
    assert [r.path for r in manifest.problems("/f")] == ["/f/b", "/f/z", "/f/a"]


def test_a_file_is_found_in_whichever_folder_has_it() -> None:
    manifest = Manifest([row("/f/a"), row("/g/b", folder="/g")])
    found = manifest.find("/g/b")
    assert found is not None and found.folder == "/g"
    manifest.drop_folder("/g")
    assert manifest.find("/g/b") is None and manifest.folders() == ("/f",)
