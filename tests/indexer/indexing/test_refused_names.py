"""What a scan refuses by a look at names and first bytes, beyond the rules of the walk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from indexer.documents.secret_policy import BLANK_ALL, SecretPolicy
from indexer.files.ignore import Ignore
from indexer.folders.state import LiveFolder
from indexer.indexing import changes
from indexer.indexing.changes import blanked_sentence, scan_paths

TOKEN = "gh" + "p_" + "a1B2" * 9


def scanned(root: Path, secrets: SecretPolicy = BLANK_ALL) -> tuple[set[str], dict[str, str]]:
    """Names of the files found, and reasons of what was skipped, by path below the root."""
    model = SimpleNamespace(secrets=secrets)
    folder = cast("LiveFolder", SimpleNamespace(path=str(root), ignore=Ignore(str(root)), model=model))
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
    assert set(skipped.values()) == {"its name holds a secret (GitHub token); rename it, or allow it in [secrets]"}


def test_a_name_with_a_token_that_the_user_allows_is_a_file_as_others(tmp_path: Path) -> None:
    (tmp_path / f"{TOKEN}.md").write_text("words", encoding="utf-8")
    for allowed in (SecretPolicy(patterns=("ghp_[A-Za-z0-9]*",)), SecretPolicy(files=("*.md",))):
        assert scanned(tmp_path, allowed) == ({f"{TOKEN}.md"}, {})
    assert scanned(tmp_path, SecretPolicy(files=("*.txt",)))[0] == set()


def test_the_name_of_a_directory_does_not_make_secrets_of_the_names_in_it(tmp_path: Path) -> None:
    digest = "d41d8cd98f00b204e9800998ecf8427e"
    for name in (f"twilio/cache/{digest}.png", "secret key/src/main/java/com/example/applications/A1B2.java"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("words", encoding="utf-8")
    files, skipped = scanned(tmp_path)
    assert len(files) == 2
    assert skipped == {}


def test_a_secret_name_among_very_many_is_found_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (tmp_path / f"note {number}.md").write_text("words", encoding="utf-8")
    (tmp_path / f"note {TOKEN}.md").write_text("words", encoding="utf-8")
    monkeypatch.setattr(changes, "_PATHS_AT_ONCE", 3)
    files, skipped = scanned(tmp_path)
    assert len(files) == 10
    assert list(skipped) == ["note [secret: GitHub token].md"]


def test_what_was_blanked_is_told_by_kind() -> None:
    assert blanked_sentence(()) == ""
    assert blanked_sentence(("password",)) == "1 secret blanked (password)"
    assert blanked_sentence(("a", "b", "b")) == "3 secrets blanked (2 × b, a)"
