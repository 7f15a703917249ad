"""Opening below a root: whatever is swapped, and whenever, what is outside is not opened. Both ways of opening."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opening import BOTH_WAYS, on_open, open_descriptors, with_way

from indexer.files import open_inside
from indexer.files.open_inside import NotRegularFile, OpenTree, open_file, relative_path, stat_inside

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither links without rights nor FIFOs")


@pytest.fixture(params=BOTH_WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return with_way(request.param, monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place, text in ((tmp_path / "root/sub/deep", "inside"), (tmp_path / "outside/deep", "outside")):
        place.mkdir(parents=True)
        (place / "a.md").write_text(text, encoding="utf-8")
        (place.parent / "a.md").write_text(text, encoding="utf-8")
    return tmp_path / "root"


def text(path: Path, root: Path) -> str:
    with open_file(str(path), str(root)) as opened:
        return opened.readall().decode()


def refusal(path: Path, root: Path) -> int:
    with pytest.raises(OSError) as raised:
        open_file(str(path), str(root))
    assert raised.value.errno is not None
    return raised.value.errno


def test_a_file_below_the_root_is_opened_for_reading_and_closed_on_exec(root: Path) -> None:
    assert text(root / "sub/deep/a.md", root) == text(root / "sub/a.md", root) == "inside"
    with open_file(str(root / "sub/a.md"), str(root)) as opened:
        assert not os.get_inheritable(opened.fileno())
        with pytest.raises(OSError):
            os.write(opened.fileno(), b"x")


@pytest.mark.parametrize("name", ["link.md", "dir/a.md", "dir/deep/a.md", "sub/up/a.md", "sub/loop/deep/a.md"])
def test_a_link_in_any_part_is_refused_also_one_that_stays_inside(root: Path, name: str) -> None:
    (root / "link.md").symlink_to(root / "sub/a.md")
    (root / "dir").symlink_to(root.parent / "outside")
    (root / "sub/up").symlink_to("..")
    (root / "sub/loop").symlink_to(".")
    assert refusal(root / name, root) == errno.ELOOP


@pytest.mark.parametrize(
    "name", ["../outside/a.md", "sub/../../outside/a.md", "sub//a.md", "./sub/a.md", "sub/.", "sub/a.md/", "sub/.."]
)
def test_a_path_that_does_not_name_a_place_below_the_root_plainly_is_refused(root: Path, name: str) -> None:
    assert refusal(Path("/"), root) == errno.EXDEV
    with pytest.raises(OSError) as raised:
        open_file(f"{root}/{name}", str(root))
    assert raised.value.errno == errno.EXDEV
    with pytest.raises(OSError):
        stat_inside(f"{root}/{name}", str(root))


def test_neither_a_sibling_with_the_roots_name_in_front_nor_a_nul_character_leads_out(root: Path) -> None:
    beside = root.parent / "root2"
    beside.mkdir()
    (beside / "a.md").write_text("outside", encoding="utf-8")
    assert refusal(beside / "a.md", root) == errno.EXDEV
    (root / "a.md").write_text("cut", encoding="utf-8")
    with pytest.raises(OSError, match="NUL"):
        open_file(f"{root}/a.md\0.txt", str(root))


def test_what_is_no_regular_file_is_refused_at_once_and_its_descriptor_closed(root: Path) -> None:
    os.mkfifo(root / "pipe")
    before = open_descriptors()
    for name in ("pipe", "sub"):
        with pytest.raises(NotRegularFile, match="not a regular file"):
            open_file(str(root / name), str(root))
    assert open_descriptors() == before


def test_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert refusal(root / "socket", root) == errno.ENXIO


def test_a_device_is_refused_and_never_read(root: Path) -> None:
    try:
        os.mknod(root / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        os.close(os.open(root / "zero", os.O_RDONLY))
    except OSError:
        pytest.skip("this user may not make or open devices")
    with pytest.raises(NotRegularFile):
        open_file(str(root / "zero"), str(root))


def test_a_root_that_is_a_link_is_refused_and_links_above_it_are_followed(root: Path) -> None:
    (root.parent / "above").symlink_to(root.parent)
    (root.parent / "alias").symlink_to(root)
    assert text(root.parent / "above/root/sub/a.md", root.parent / "above/root") == "inside"
    assert refusal(root.parent / "alias/sub/a.md", root.parent / "alias") == errno.ELOOP
    with pytest.raises(OSError):
        OpenTree(str(root.parent / "alias"))


def test_status_is_that_of_a_link_itself_and_behind_a_link_there_is_none(root: Path) -> None:
    (root / "link.md").symlink_to(root / "sub/a.md")
    (root / "dir").symlink_to(root.parent / "outside")
    assert stat.S_ISLNK(stat_inside(str(root / "link.md"), str(root)).st_mode)
    assert stat_inside(str(root / "sub/a.md"), str(root)).st_ino == (root / "sub/a.md").stat().st_ino
    with pytest.raises(OSError) as raised:
        stat_inside(str(root / "dir/a.md"), str(root))
    assert raised.value.errno == errno.ELOOP
    with pytest.raises(FileNotFoundError):
        stat_inside(str(root / "sub/none.md"), str(root))


def test_a_tree_lists_directories_with_their_entries_status_and_refuses_links(root: Path) -> None:
    (root / "dir").symlink_to(root.parent / "outside")
    before = open_descriptors()
    with OpenTree(str(root)) as tree:
        entries = {entry.name: entry for entry in tree.entries(str(root))}
        assert set(entries) == {"sub", "dir"} and entries["sub"].is_dir(follow_symlinks=False)
        (found,) = (entry for entry in tree.entries(str(root / "sub")) if entry.name == "a.md")
        assert found.stat(follow_symlinks=False).st_size == len("inside")
        for name, number in (("dir", errno.ELOOP), ("dir/deep", errno.ELOOP), ("sub/a.md", errno.ENOTDIR)):
            with pytest.raises(OSError) as raised:
                tree.entries(str(root / name))
            assert raised.value.errno == number, name
    assert open_descriptors() == before


def test_names_that_are_no_unicode_are_opened(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \n.md")
    (root / name).write_text("odd", encoding="utf-8")
    assert text(root / name, root) == "odd"
    assert relative_path(f"{root}/{name}", str(root)) == name


def test_the_root_directory_of_the_system_can_be_a_root(root: Path) -> None:
    assert text(root / "sub/a.md", Path("/")) == "inside"


# Swaps between the steps of opening ----------------------------------------------------------------------------------

SWAPS: dict[str, Callable[[Path, Path], None]] = {
    "link to a directory outside": lambda place, outside: place.symlink_to(outside),
    "FIFO": lambda place, _: os.mkfifo(place),
    "file": lambda place, _: place.write_text("file", encoding="utf-8") and None,
    "nothing": lambda place, _: None,
}


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("put", SWAPS)
@pytest.mark.parametrize("directory", ["sub", "sub/deep"])
def test_a_directory_replaced_before_any_step_of_opening_gives_the_inside_or_nothing(
    root: Path, way: str, step: int, put: str, directory: str
) -> None:
    place, target = root / directory, root.parent / "outside" / directory.removeprefix("sub").lstrip("/")

    def swap() -> None:
        place.rename(root.parent / "kept")
        SWAPS[put](place, target)

    before = open_descriptors()
    with on_open(step, swap):  # the root, then each part of the way
        try:
            said = text(root / "sub/deep/a.md", root)
        except OSError:
            said = "refused"
    assert said in ("inside", "refused")
    assert open_descriptors() == before
    if way == "part by part" and step == 1:
        assert said == "refused"


def test_what_is_opened_is_what_is_read_whatever_takes_its_name_afterwards(root: Path) -> None:
    place = root / "sub/a.md"
    with open_file(str(place), str(root)) as opened:
        place.unlink()
        os.link(root.parent / "outside/a.md", place)
        assert opened.readall() == b"inside"


# Kernels and mounts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_a_kernel_or_container_without_the_call_opens_part_by_part(
    monkeypatch: pytest.MonkeyPatch, root: Path, number: int
) -> None:
    def refusing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.undo()
    monkeypatch.setattr(open_inside, "_open_beneath", refusing)
    open_inside._has_openat2.cache_clear()
    try:
        assert not open_inside._has_openat2()
        assert text(root / "sub/a.md", root) == "inside"
    finally:
        open_inside._has_openat2.cache_clear()


MOUNTED = """
import os, subprocess, sys
from indexer.files.open_inside import open_file, stat_inside
root, outside, first = sys.argv[1], sys.argv[2], sys.argv[3]
path = root + "/sub/a.md"
seen = os.lstat(path)
opened = open_file(path, root) if first == "opened" else None
subprocess.run(["mount", "--bind", outside, root + "/sub"], check=True)
if opened:
    print(opened.readall().decode())
else:
    now = stat_inside(path, root)
    with open_file(path, root) as opened:
        print(opened.readall().decode(), (now.st_ino, now.st_size) != (seen.st_ino, seen.st_size))
subprocess.run(["umount", root + "/sub"], check=True)
with open_file(path, root) as opened:
    print(opened.readall().decode())
"""


@pytest.fixture
def in_a_mount_namespace() -> Iterator[list[str]]:
    command = ["unshare", "--mount", "--propagation", "private"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount")
    yield [*command, sys.executable, "-c", MOUNTED]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["opened", "not opened"])
def test_a_mount_over_a_directory_counts_as_its_content_and_an_open_file_stays_what_it_was(
    root: Path, in_a_mount_namespace: list[str], first: str
) -> None:
    command = [*in_a_mount_namespace, str(root), str(root.parent / "outside"), first]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0, done.stderr
    expected = "inside\ninside\n" if first == "opened" else "outside True\ninside\n"
    assert done.stdout == expected
