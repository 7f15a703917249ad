"""The claim: one holder, whatever happens to files and processes."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from mcp_server.processes import owner_lock
from mcp_server.processes.owner_lock import (
    MAX_SOCKET_PATH,
    OwnerFiles,
    OwnerLock,
    is_held,
    owner_files_for,
    wait_until_released,
)
from mcp_server.state_files import read_state, write_state


@pytest.fixture
def owner_files(tmp_path: Path) -> OwnerFiles:
    return owner_files_for(str(tmp_path / "data"), str(tmp_path / "run"))


def test_only_one_holds_the_claim_at_a_time(owner_files: OwnerFiles) -> None:
    with OwnerLock(owner_files) as one, OwnerLock(owner_files) as two:
        assert not is_held(owner_files)
        assert one.acquire()
        assert is_held(owner_files)
        assert not two.acquire()
        one.release()
        assert not is_held(owner_files)
        assert two.acquire()


def test_asking_whether_it_is_held_does_not_take_it(owner_files: OwnerFiles) -> None:
    with OwnerLock(owner_files) as one:
        assert not is_held(owner_files)
        assert one.acquire()


def test_a_lock_file_that_was_replaced_is_not_held(owner_files: OwnerFiles) -> None:
    with OwnerLock(owner_files) as old, OwnerLock(owner_files) as new:
        assert old.acquire()
        assert old.holds()
        Path(owner_files.lock_file).unlink()
        assert not old.holds()
        assert new.acquire()
        assert new.holds()
        assert not old.holds()


def test_whoever_waits_for_the_claim_to_be_free_wakes_up(owner_files: OwnerFiles) -> None:
    with OwnerLock(owner_files) as one:
        assert one.acquire()
        waiting = threading.Thread(target=wait_until_released, args=(owner_files,))
        waiting.start()
        assert waiting.is_alive()
        one.release()
        waiting.join(5)
        assert not waiting.is_alive()


def test_the_runtime_directory_belongs_to_the_user_alone(owner_files: OwnerFiles) -> None:
    assert stat.S_IMODE(os.stat(owner_files.directory).st_mode) == 0o700


def test_a_runtime_directory_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    base = tmp_path / "run"
    first = owner_files_for(str(tmp_path / "data"), str(base))
    os.chmod(first.directory, 0o755)
    owner_files_for(str(tmp_path / "data"), str(base))
    assert stat.S_IMODE(os.stat(first.directory).st_mode) == 0o700


def test_a_link_where_the_runtime_directory_should_be_is_refused(tmp_path: Path) -> None:
    name = Path(owner_files_for(str(tmp_path / "data"), str(tmp_path / "run")).directory).name
    elsewhere, base = tmp_path / "elsewhere", tmp_path / "trap"
    elsewhere.mkdir(mode=0o700)
    base.mkdir(mode=0o700)
    (base / name).symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="is a link"):
        owner_files_for(str(tmp_path / "data"), str(base))


def test_every_spelling_of_a_data_directory_has_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    spellings = ["data", "link", "data/../data", "./data/"]
    assert len({owner_files_for(f"{tmp_path}/{one}", str(tmp_path / "run")).directory for one in spellings}) == 1
    assert (
        owner_files_for(str(tmp_path / "other"), str(tmp_path / "run")).directory
        != owner_files_for(str(tmp_path / "data"), str(tmp_path / "run")).directory
    )


@pytest.mark.skipif(sys.platform == "win32", reason="unix sockets")
def test_socket_paths_fit_every_platform(tmp_path: Path) -> None:
    longest = Path(owner_files_for(str(tmp_path)).directory, "owner-01234567.sock")
    assert len(os.fsencode(longest)) <= MAX_SOCKET_PATH


def test_a_base_too_long_for_sockets_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path("/tmp") / f"fm-{os.getpid()}"
    candidates = [str(tmp_path / ("x" * 90)), str(short)]
    monkeypatch.setattr(owner_lock, "_runtime_directory_candidates", lambda: candidates)
    try:
        assert Path(owner_files_for(str(tmp_path)).directory).parent == short
    finally:
        for entry in short.iterdir():
            entry.rmdir()
        short.rmdir()


def test_a_note_is_replaced_as_a_whole_and_private(owner_files: OwnerFiles) -> None:
    write_state(owner_files.state_file, {"pid": 1})
    write_state(owner_files.state_file, {"pid": 2})
    assert read_state(owner_files.state_file) == {"pid": 2}
    assert stat.S_IMODE(os.stat(owner_files.state_file).st_mode) == 0o600
    assert sorted(os.listdir(owner_files.directory)) == ["owner.json"]


@pytest.mark.parametrize("text", ["", "[1]", "{", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")])
def test_a_note_that_is_none_says_nothing(owner_files: OwnerFiles, text: str) -> None:
    Path(owner_files.state_file).write_text(text, encoding="utf-8")
    assert read_state(owner_files.state_file) == {}
