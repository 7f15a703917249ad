"""The data directory is closed to other users, or not written to."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import settings
from fakes import FakeLoader

from indexer.engine import open_engine
from indexer.errors import FolderError, StoreError
from indexer.folders.registry import add_folder
from indexer.store import private_directory
from indexer.store.private_directory import make_directory, make_private
from indexer.store.writer_lock import WriterLock

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[3]
AS_ROOT = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can act as another user")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def as_nobody(program: str, before: str = "") -> str:
    """Run a program as another user; return what it says. ``before`` imports what that user perhaps cannot read."""
    drop = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
    command = [sys.executable, "-c", f"{before}\n{drop}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that other users can reach."""
    made = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_new_directory_is_for_the_user_alone(tmp_path: Path) -> None:
    assert make_private(tmp_path / "data") == ""
    assert mode(tmp_path / "data") == 0o700


def test_a_directory_that_was_deleted_comes_back_for_the_user_alone(tmp_path: Path) -> None:
    """While the index is open: its lock makes it again, and what is above it."""
    make_directory(tmp_path / "data" / "index")
    with WriterLock(tmp_path / "data" / "index" / "writer.lock") as lock:
        shutil.rmtree(tmp_path / "data")
        lock.renew()
        assert mode(tmp_path / "data") == mode(tmp_path / "data" / "index") == 0o700


@pytest.mark.parametrize("open_to_others", [0o755, 0o770, 0o711, 0o777, 0o701])
def test_one_that_others_can_enter_is_closed_to_them_with_all_below_it(tmp_path: Path, open_to_others: int) -> None:
    inner = tmp_path / "data" / "index" / "tables" / "chunks.lance"
    inner.mkdir(parents=True)
    for each in (inner, *inner.parents[:3]):
        each.chmod(open_to_others)
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    (tmp_path / "data" / "logs").symlink_to(outside)
    said = make_private(tmp_path / "data")
    assert f"{open_to_others:04o}" in said
    assert {mode(each) for each in (inner, *inner.parents[:3])} == {0o700}
    assert mode(outside) == 0o755  # what a link names is another matter
    assert make_private(tmp_path / "data") == ""


def test_a_directory_with_files_of_others_stays_as_it_is_and_the_index_in_it_is_closed(tmp_path: Path) -> None:
    """Somebody named his home, or a shared directory: closing all of that would do harm."""
    shared = tmp_path / "shared"
    (shared / "photos" / "2024").mkdir(parents=True)
    (shared / "index" / "tables").mkdir(parents=True)
    for each in (shared, shared / "photos", shared / "photos" / "2024", shared / "index", shared / "index" / "tables"):
        each.chmod(0o755)
    assert f"{shared / 'index'} was open to other users" in make_private(shared)
    assert {mode(shared), mode(shared / "photos"), mode(shared / "photos" / "2024")} == {0o755}
    assert {mode(shared / "index"), mode(shared / "index" / "tables")} == {0o700}
    assert make_private(shared) == ""


def test_a_link_to_a_directory_counts_as_the_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert make_private(tmp_path / "link")
    assert mode(tmp_path / "real") == 0o700


def test_one_that_stays_open_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems without modes accept the change and do not make it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    monkeypatch.setattr(private_directory, "_close_to_others", lambda *_: None)
    with pytest.raises(StoreError, match=r"cannot be closed to them.*choose a directory") as caught:
        make_private(tmp_path / "data")
    assert caught.value.code == "permission"


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(StoreError, match=r"belongs to another user.*--data-dir"):
        make_private(tmp_path / "data")
    with pytest.raises(FolderError, match="belongs to another user"):
        add_folder(settings(tmp_path / "data"), str(tmp_path))


@AS_ROOT
def test_another_user_is_refused_for_real(reachable: Path) -> None:
    data = reachable / "data"
    data.mkdir()
    data.chmod(0o777)
    said = as_nobody(
        f"make_private(Path({str(data)!r}))",
        "from pathlib import Path; from indexer.store.private_directory import make_private",
    )
    assert "belongs to another user (number 0)" in said
    assert mode(data) == 0o777


@AS_ROOT
@pytest.mark.slow
async def test_another_user_finds_no_word_of_a_private_file_in_the_index(
    reachable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, notes = reachable / "data", reachable / "notes"
    data.mkdir()
    data.chmod(0o755)
    notes.mkdir()
    (notes / "a.md").write_text("A private word: zebrafish budget.\n", encoding="utf-8")
    (notes / "a.md").chmod(0o600)
    search = (
        "import os\n"
        f"files = [os.path.join(d, f) for d, _, fs in os.walk({str(data)!r}) for f in fs]\n"
        "print(len(files), sum(b'zebrafish' in open(f, 'rb').read() for f in files))"
    )
    (data / "folders.txt").write_text("zebrafish", encoding="utf-8")
    (data / "folders.txt").chmod(0o644)
    assert as_nobody(search) == "1 1\n"  # before: the trial itself works
    async with open_engine(settings(data), version="1", loader=FakeLoader()) as engine:
        await engine.add_folder(str(notes))
        await engine.index()
    assert as_nobody(search) == "0 0\n"
    assert any(b"zebrafish" in each.read_bytes() for each in (data / "index").rglob("*") if each.is_file())
    assert f"{data} was open to other users of this machine" in caplog.text
    assert mode(data) == 0o700


@pytest.mark.slow
async def test_an_index_in_a_directory_that_stays_open_is_read_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, notes = tmp_path / "data", tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("The zebrafish swims.\n", encoding="utf-8")
    async with open_engine(settings(data), version="1", loader=FakeLoader()) as engine:
        await engine.add_folder(str(notes))
        await engine.index()
    data.chmod(0o755)
    monkeypatch.setattr(private_directory, "_close_to_others", lambda *_: None)
    async with open_engine(settings(data), version="1", loader=FakeLoader()) as engine:
        async for status in engine.watch():
            if status.owner.state not in ("uninitialized", "initializing"):
                break
        assert status.owner.state == "read_only"
        assert "open to other users" in status.owner.detail
        assert status.index.state == "permission"
