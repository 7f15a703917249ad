"""What a scan refuses by a look at names and first bytes, beyond the rules of the walk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from indexer.files.ignore import Ignore
from indexer.folders.state import LiveFolder
from indexer.indexing.changes import blanked_sentence, scan_paths

TOKEN = "gh" + "p_" + "a1B2" * 9


def scanned(root: Path) -> tuple[set[str], dict[str, str]]:
    """Names of the files found, and reasons of what was skipped, by path below the root."""
    folder = cast("LiveFolder", SimpleNamespace(path=str(root), ignore=Ignore(str(root))))
    files, skipped = scan_paths(folder, (str(root),), had_files=False)
    below = len(str(root)) + 1
    return {file.path[below:] for file in files}, {one.path[below:]: one.reason for one in skipped}


def test_a_keynote_presentation_is_not_taken_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "talk.key").write_bytes(b"PK\x03\x04 a presentation")
    (tmp_path / "server.key").write_text("-----BEGIN PRIVATE" + " KEY-----\n", encoding="ascii")
    (tmp_path / "der.key").write_bytes(b"\x30\x82\x04\xa4")
    files, skipped = scanned(tmp_path)
    assert files == set()
    assert skipped["talk.key"] == "Keynote presentations cannot be read"
    assert skipped["server.key"].startswith("a secret by its name")
    assert skipped["der.key"].startswith("a secret by its name")


def test_a_path_that_holds_a_token_is_skipped_and_told_without_it(tmp_path: Path) -> None:
    (tmp_path / f"dir {TOKEN}").mkdir()
    (tmp_path / f"dir {TOKEN}" / "a.md").write_text("words", encoding="utf-8")
    (tmp_path / f"{TOKEN}.md").write_text("words", encoding="utf-8")
    (tmp_path / "plain.md").write_text("words", encoding="utf-8")
    files, skipped = scanned(tmp_path)
    assert files == {"plain.md"}
    assert sorted(skipped) == ["[secret: GitHub token].md", "dir [secret: GitHub token]/a.md"]
    assert set(skipped.values()) == {"its name holds a secret (GitHub token); rename it"}


def test_what_was_blanked_is_told_by_kind() -> None:
    assert blanked_sentence(()) == ""
    assert blanked_sentence(("password",)) == "1 secret blanked (password)"
    assert blanked_sentence(("a", "b", "b")) == "3 secrets blanked (2 × b, a)"
