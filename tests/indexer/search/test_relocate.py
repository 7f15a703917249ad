"""What a changed text file says now where a passage of it was found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer.search.hits import MAX_FILE_BYTES, ChangedFiles, Passage

LINES = [f"line {n} speaks of subject {n}" for n in range(1, 41)]
PASSAGE = "\n".join(LINES[9:13])


def relocated(path: str, passage: Passage) -> Passage | None:
    return ChangedFiles().relocate(path, os.path.dirname(path), passage)


def written(tmp_path: Path, lines: list[str], name: str = "note.md") -> str:
    place = tmp_path / name
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(place)


def test_a_passage_that_moved_is_cited_where_it_stands_now(tmp_path: Path) -> None:
    path = written(tmp_path, ["new first", "new second", *LINES])
    assert relocated(path, Passage("lines 10-13", PASSAGE)) == Passage("lines 12-15", PASSAGE)


def test_an_edited_passage_is_shown_as_it_is_now(tmp_path: Path) -> None:
    lines = ["a new line", *LINES]
    lines[11] = "line 11 says something else"
    found = relocated(written(tmp_path, lines), Passage("lines 10-13", PASSAGE))
    assert found is not None
    assert (found.locator, found.text.splitlines()[1]) == ("lines 11-14", "line 11 says something else")


def test_a_passage_that_is_gone_gives_what_stands_in_its_place_and_never_past_the_end(tmp_path: Path) -> None:
    path = written(tmp_path, ["wholly", "other"])
    assert relocated(path, Passage("lines 10-13", PASSAGE)) == Passage("lines 2", "other")


def test_repeated_lines_do_not_pull_a_passage_away(tmp_path: Path) -> None:
    old = "}\n\n}\nreturn the honey"
    path = written(tmp_path, ["}"] * 30 + ["", "x", "return the honey"])
    found = relocated(path, Passage("lines 20-23", old))
    assert found is not None and found.text.endswith("return the honey")


def test_rows_of_a_table_are_followed_too(tmp_path: Path) -> None:
    path = written(tmp_path, ["name,price", "plum,3", "pear,2", "fig,9"], "fruit.csv")
    assert relocated(path, Passage('sheet "fruit" rows 2-3', "pear,2\nfig,9")) == Passage(
        'sheet "fruit" rows 3-4', "pear,2\nfig,9"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("letter.eml", "the body"),
        ("large.md", "x" * (MAX_FILE_BYTES + 1)),
        ("nothing.md", ""),
        ("binary.md", "a\0b" + "\0" * 6 + "\1"),
    ],
)
def test_what_is_not_cheap_or_not_safe_is_not_read(tmp_path: Path, name: str, line: str) -> None:
    assert relocated(written(tmp_path, [line], name), Passage("lines 1", "the body")) is None


def test_a_secret_in_a_changed_file_is_blanked(tmp_path: Path) -> None:
    token = "gh" + "p_" + "a1B2" * 9
    found = relocated(written(tmp_path, [f"the token is {token}"]), Passage("lines 1", "the body"))
    assert found == Passage("lines 1", "the token is [secret: GitHub token]")


def test_a_file_behind_a_link_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    (tmp_path / "link.md").symlink_to(path)
    assert relocated(str(tmp_path / "link.md"), Passage("lines 10-13", PASSAGE)) is None
