import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.errors import FolderError
from indexer.files.ignore import Ignore
from indexer.files.walk import Skipped, stat_file, walk
from indexer.types import File

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "root"
    made.mkdir()
    return made


def look(root: Path, below: Path | None = None, **rules: object) -> tuple[dict[str, File], dict[str, Skipped]]:
    files: dict[str, File] = {}
    skipped: dict[str, Skipped] = {}
    for each in walk(str(root), Ignore(str(root), **rules), str(below) if below else None):  # type: ignore[arg-type]
        if isinstance(each, File):
            assert each.path not in files
            files[each.path] = each
        else:
            skipped[each.path] = each
    return files, skipped


def one(path: Path, root: Path, **rules: object) -> File | Skipped | None:
    return stat_file(str(path), str(root), Ignore(str(root), **rules))  # type: ignore[arg-type]


def test_files_come_with_size_and_time(root: Path) -> None:
    file = root / "sub" / "a.txt"
    file.parent.mkdir()
    file.write_text("text")
    os.utime(file, ns=(1, 1_700_000_000_123_456_789))
    expected = File(str(file), str(root), 4, file.stat().st_mtime_ns, file.stat().st_ino)
    assert look(root) == ({str(file): expected}, {})
    assert one(file, root) == expected


def test_an_empty_file_is_a_file(root: Path) -> None:
    (root / "empty").touch()
    assert list(look(root)[0]) == [str(root / "empty")]


@pytest.mark.parametrize(
    "name", ["\"quoted\" 'twice'", "two\nlines", "\U0001f600.txt", " ", "-rf", "a\\b", os.fsdecode(b"\xff\xfe.txt")]
)
def test_odd_names_are_walked_as_they_are(root: Path, name: str) -> None:
    file = root / name / name
    try:
        file.parent.mkdir()
        file.write_text("text")
    except OSError:
        pytest.skip("this file system refuses such a name")
    assert list(look(root)[0]) == [str(file)]
    assert isinstance(one(file, root), File)


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("text")
    (root / "to-file").symlink_to(outside / "a.txt")
    (root / "to-directory").symlink_to(outside)
    (root / "to-itself").symlink_to("to-itself")
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    files, skipped = look(root)
    assert files == {}
    assert {each.kind for each in skipped.values()} == {"link"} and len(skipped) == 5
    for path in (root / "to-file", root / "to-itself", root / "dangling", root / "loop"):
        assert isinstance(one(path, root), Skipped)
    assert one(root / "to-directory" / "a.txt", root) is None
    assert one(root / "loop" / "to-file", root) is None


def test_a_hard_link_is_a_file_of_its_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    os.link(tmp_path / "a.txt", root / "b.txt")
    assert list(look(root)[0]) == [str(root / "b.txt")]


def test_pipes_sockets_and_devices_are_skipped_and_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # a socket's path may be 107 bytes long at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        files, skipped = look(root)
    assert files == {}
    assert skipped[str(root / "pipe")].reason.startswith("a named pipe")
    assert skipped[str(root / "socket")].reason.startswith("a socket")
    assert {each.kind for each in skipped.values()} == {"special"}


def test_a_large_file_is_reported_with_the_limit(root: Path) -> None:
    file = root / "big.txt"
    file.write_bytes(b"x" * 3_000_000)
    (root / "exact.txt").write_bytes(b"x" * 2_000_000)
    files, skipped = look(root, max_bytes=2_000_000)
    assert list(files) == [str(root / "exact.txt")]
    assert skipped[str(file)].kind == "large"
    assert "2.9 MiB, over the limit of 1.9" in skipped[str(file)].reason and "max_file_mb" in skipped[str(file)].reason
    assert one(file, root, max_bytes=2_000_000) == skipped[str(file)]


def test_a_secret_is_reported_other_ignored_files_are_not(root: Path) -> None:
    for name in (".env", "a.pyc", ".hidden", "a.txt"):
        (root / name).write_text("text")
    (root / ".ssh").mkdir()
    (root / ".ssh" / "id_rsa").write_text("key")
    files, skipped = look(root)
    assert list(files) == [str(root / "a.txt")]
    assert {path: each.kind for path, each in skipped.items()} == {
        str(root / ".env"): "secret",
        str(root / ".ssh"): "secret",
    }
    assert isinstance(one(root / ".env", root), Skipped)
    assert isinstance(one(root / ".ssh" / "id_rsa", root), Skipped)
    assert one(root / "a.pyc", root) is None


@pytest.mark.skipif(sys.platform != "linux", reason="told by blocks on Linux only")
def test_a_file_without_blocks_is_a_placeholder_once_it_is_old(root: Path) -> None:
    file = root / "in-the-cloud.pdf"
    with file.open("wb") as stream:
        stream.truncate(1_000_000)
    if file.stat().st_blocks:
        pytest.skip("this file system gives a hole blocks")
    assert isinstance(one(file, root), File)  # just written: its blocks may not be there yet
    code = (
        "import sys, time; real = time.time; time.time = lambda: real() + 3600\n"
        "from indexer.files.ignore import Ignore; from indexer.files.walk import stat_file, walk\n"
        "ignore = Ignore(sys.argv[1])\n"
        "print(stat_file(sys.argv[2], sys.argv[1], ignore).kind, *[each.kind for each in walk(sys.argv[1], ignore)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root, file], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["placeholder", "placeholder"]


def test_a_part_of_a_folder_is_walked_with_the_rules_above_it(root: Path) -> None:
    (root / ".gitignore").write_text("*.log\n/sub/skip/\n")
    for name in ("a.txt", "sub/b.txt", "sub/b.log", "sub/deep/c.txt", "sub/skip/d.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")
    assert set(look(root, root / "sub")[0]) == {str(root / "sub/b.txt"), str(root / "sub/deep/c.txt")}
    assert set(look(root, root / "sub/deep")[0]) == {str(root / "sub/deep/c.txt")}
    assert look(root, root / "sub/skip") == ({}, {})
    assert look(root, root / "gone") == ({}, {})
    assert look(root, root) == look(root)


def test_a_part_behind_a_link_or_outside_is_nothing(root: Path, tmp_path: Path) -> None:
    outside = tmp_path.resolve() / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("text")
    (root / "link").symlink_to(outside)
    for below in (root / "link", outside, root / ".." / "outside"):
        assert look(root, below) == ({}, {})


@pytest.mark.parametrize("name", ["gone.txt", "sub", "sub/../a.txt", ".", "a.txt/x"])
def test_what_is_no_file_has_no_stat(root: Path, name: str) -> None:
    (root / "sub").mkdir()
    (root / "a.txt").write_text("text")
    assert stat_file(f"{root}/{name}", str(root), Ignore(str(root))) is None


def test_a_missing_root_is_an_error_and_not_an_empty_folder(root: Path) -> None:
    ignore = Ignore(str(root))
    shutil.rmtree(root)
    with pytest.raises(FolderError, match=r"cannot be listed \(No such file or directory\); its index is kept"):
        list(walk(str(root), ignore))
    with pytest.raises(FolderError):
        list(walk(str(root), ignore, str(root / "sub")))


def test_a_root_that_vanishes_during_the_walk_is_an_error(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "a.txt").write_text("text")
    (root / "b.txt").write_text("text")
    entries = walk(str(root), Ignore(str(root)))
    next(entries)
    shutil.rmtree(root)
    with pytest.raises(FolderError):
        list(entries)


def test_a_directory_that_vanishes_during_the_walk_is_passed_over(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "b.txt").write_text("text")
    entries = walk(str(root), Ignore(str(root)))
    assert isinstance(next(entries), File)
    (root / "sub").rmdir()
    assert list(entries) == []


UNREADABLE = """
import os, sys
from indexer.files.ignore import Ignore
from indexer.files.walk import walk
ignore = Ignore(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for each in walk(sys.argv[1], ignore):
    print(type(each).__name__, getattr(each, "kind", ""), os.path.basename(each.path), getattr(each, "reason", ""))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_an_unreadable_directory_is_reported_and_costs_only_itself() -> None:
    # Not in tmp_path, which other users cannot enter.
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0o700)
        (root / "open.txt").write_text("text")
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, root], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "File  open.txt ",
        "Skipped unreadable closed the directory cannot be read: Permission denied",
    ]


def test_a_walk_costs_little_more_than_listing_and_stat(root: Path) -> None:
    """Counts calls, not time: each directory is listed once, each kept file looked at once."""
    for number in range(20):
        directory = root / f"d{number}"
        directory.mkdir()
        for file in range(10):
            (directory / f"{file}.txt").touch()
    (root / "node_modules").mkdir()
    (root / "node_modules" / "x.js").touch()
    calls: list[str] = []

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if counting and event == "os.scandir":
            calls.append(event)
        elif counting and event == "open" and os.path.basename(str(arguments[0])).endswith(".txt"):
            calls.append("a file is opened")

    counting = False
    sys.addaudithook(count)
    ignore = Ignore(str(root))
    counting = True
    found = len(list(walk(str(root), ignore)))
    counting = False
    assert found == 200
    assert calls.count("os.scandir") == 22  # the root is looked at once more before the walk
    assert "a file is opened" not in calls


def test_a_file_with_two_listed_spellings_is_found_by_both_and_by_no_third(tmp_path: Path) -> None:
    # Hard links stand for a file system without letter case: another spelling finds the same file.
    (tmp_path / "Note.md").write_text("x", encoding="utf-8")
    os.link(tmp_path / "Note.md", tmp_path / "nOTE.MD")
    ignore = Ignore(str(tmp_path))
    for name in ("Note.md", "nOTE.MD"):
        assert isinstance(stat_file(str(tmp_path / name), str(tmp_path), ignore), File)
    assert stat_file(str(tmp_path / "NOTE.md"), str(tmp_path), ignore) is None


def test_only_the_listed_spelling_counts_where_case_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "Note.md"
    note.write_text("x", encoding="utf-8")
    real = os.lstat

    def caseless(path: str) -> os.stat_result:
        return real(note if os.fspath(path).lower() == str(note).lower() else path)

    monkeypatch.setattr(os, "lstat", caseless)
    ignore = Ignore(str(tmp_path))
    assert isinstance(stat_file(str(note), str(tmp_path), ignore), File)
    assert stat_file(str(tmp_path / "note.md"), str(tmp_path), ignore) is None
