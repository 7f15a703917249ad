"""Things swapped between two steps of a walk: what is outside the folder is neither listed nor read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from opening import BOTH_WAYS, device, on_open, open_descriptors, with_way

from indexer.errors import FolderError
from indexer.files.ignore import Ignore
from indexer.files.walk import Skipped, stat_file, walk
from indexer.types import File


@pytest.fixture(params=BOTH_WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return with_way(request.param, monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "outside/sub").mkdir(parents=True)
    (tmp_path / "root/sub/a.md").write_text("inside", encoding="utf-8")
    for name in ("only-outside.md", "sub/only-outside.md"):
        (tmp_path / "outside" / name).write_text("outside", encoding="utf-8")
    return tmp_path / "root"


PUT: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "link": (lambda place, target: place.symlink_to(target), "link"),
    "FIFO": (lambda place, _: os.mkfifo(place), "special"),
    "device": (device, "special"),
    "hard link": (lambda place, target: os.link(target, place), "file"),
}


def kinds(entries: list[File | Skipped]) -> dict[str, str]:
    return {os.path.basename(e.path): e.kind if isinstance(e, Skipped) else "file" for e in entries}


@pytest.mark.parametrize("put", PUT)
def test_a_file_replaced_after_its_directory_was_listed_is_what_it_is_now(root: Path, put: str) -> None:
    for name in ("first.md", "second.md"):
        (root / name).write_text("inside", encoding="utf-8")
    entries = walk(str(root), Ignore(str(root)))
    first = next(entries)  # the directory has been listed; the other file's status has not been asked
    other = root / ({"first.md", "second.md"} - {os.path.basename(first.path)}).pop()
    other.unlink()
    replace, kind = PUT[put]
    target = root.parent / "outside/only-outside.md"
    replace(other, target)
    rest = list(entries)
    assert kinds(rest) == {other.name: kind, "a.md": "file"}
    if kind == "file":
        (found,) = (entry for entry in rest if entry.path == str(other))
        assert isinstance(found, File) and abs(found.inode) == target.stat().st_ino and found.inode < 0


@pytest.mark.parametrize(("put", "rest"), [("link", {"sub": "link"}), ("FIFO", {}), ("device", {})])
def test_a_directory_replaced_after_its_parent_was_listed_is_not_entered(
    root: Path, put: str, rest: dict[str, str]
) -> None:
    (root / "b.md").write_text("inside", encoding="utf-8")
    before = open_descriptors()
    entries = walk(str(root), Ignore(str(root)))
    assert kinds([next(entries)]) == {"b.md": "file"}
    (root / "sub").rename(root.parent / "kept")
    PUT[put][0](root / "sub", root.parent / "outside")
    assert kinds(list(entries)) == rest
    assert open_descriptors() == before


def test_a_root_replaced_during_the_walk_leads_nowhere_else(root: Path) -> None:
    (root / "b.md").write_text("inside", encoding="utf-8")
    entries = walk(str(root), Ignore(str(root)))
    next(entries)
    root.rename(root.parent / "kept")
    root.symlink_to(root.parent / "outside")
    assert kinds(list(entries)) == {"a.md": "file"}  # of the folder that the walk began with


def test_a_root_that_has_become_a_link_is_an_error_that_keeps_the_index(root: Path) -> None:
    ignore = Ignore(str(root))
    root.rename(root.parent / "kept")
    root.symlink_to(root.parent / "outside")
    with pytest.raises(FolderError, match="has become a symbolic link, which is not followed; its index is kept"):
        list(walk(str(root), ignore))


def test_a_walk_that_is_given_up_closes_what_it_opened(root: Path) -> None:
    (root / "b.md").write_text("inside", encoding="utf-8")
    before = open_descriptors()
    entries = walk(str(root), Ignore(str(root)))
    next(entries)
    assert open_descriptors() == before + 2  # the root and one directory
    entries.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


@pytest.mark.parametrize("put", ["link", "FIFO"])
def test_a_directory_replaced_while_a_path_below_it_is_looked_at_has_no_such_file(root: Path, put: str) -> None:
    (root.parent / "outside/a.md").write_text("outside", encoding="utf-8")

    def swap() -> None:
        (root / "sub").rename(root.parent / "kept")
        PUT[put][0](root / "sub", root.parent / "outside")

    with on_open(1, swap):
        assert stat_file(str(root / "sub/a.md"), str(root), Ignore(str(root))) is None


@pytest.mark.parametrize("put", ["link", "FIFO", "device"])
@pytest.mark.parametrize("name", [".gitignore", ".folder-mcpignore"])
def test_an_ignore_file_replaced_before_it_is_opened_has_no_rules_and_does_not_hang(
    root: Path, name: str, put: str
) -> None:
    (root.parent / "outside/rules").write_text("*.md\n", encoding="utf-8")
    (root / "sub" / name).write_text("a.md\n", encoding="utf-8")
    ignore = Ignore(str(root))

    def swap() -> None:
        (root / "sub" / name).unlink()
        PUT[put][0](root / "sub" / name, root.parent / "outside/rules")

    with on_open(1, swap):
        assert not ignore.verdict(str(root / "sub/a.md"), is_dir=False).ignored


def test_a_directory_replaced_before_its_ignore_file_is_opened_brings_no_rules_from_outside(root: Path) -> None:
    (root.parent / "outside/.gitignore").write_text("*.md\n", encoding="utf-8")
    (root / "sub/.gitignore").write_text("b.md\n", encoding="utf-8")
    ignore = Ignore(str(root))

    def swap() -> None:
        (root / "sub").rename(root.parent / "kept")
        (root / "sub").symlink_to(root.parent / "outside")

    with on_open(1, swap):
        assert not ignore.verdict(str(root / "sub/a.md"), is_dir=False).ignored
