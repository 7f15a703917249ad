from __future__ import annotations

from pathlib import Path

from mcp_server.cli.bench import grep


def test_places_with_more_different_words_come_first_and_case_is_ignored(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("key key key key key\n" * 3, encoding="utf-8")
    two.write_text("\n" * 79 + "Rotate the KEY\n", encoding="utf-8")
    found = grep("rotate a key", [str(one), str(two), str(tmp_path / "gone.txt")], 5)
    assert found == [(str(two), "lines 41-80"), (str(one), "lines 1-40")]
    assert grep("rotate a key", [str(one), str(two)], 1) == found[:1]


def test_words_are_taken_literally_and_no_words_find_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("c++ (really)", encoding="utf-8")
    assert grep("?! .", [str(file)], 5) == []
    assert grep("really", [str(file)], 5) == [(str(file), "lines 1-40")]
