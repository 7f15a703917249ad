"""Where the owner's files are when somebody else is at the usual place; there is one owner whatever comes and goes."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from findings import by_name
from relays import ROOT, Home

from indexer.config import Config
from mcp_server.doctor.setup import owner_findings
from mcp_server.processes import owner_lock
from mcp_server.processes.connections import listen
from mcp_server.processes.open_engine import open_alone
from mcp_server.processes.owner_lock import (
    NoRuntimeDirectory,
    OwnerFiles,
    OwnerLock,
    owner_files_for,
    owner_files_now,
    passed_over_sentence,
)

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(
    sys.platform == "win32" or os.getuid() != 0, reason="only root can make files of another user"
)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is one candidate")


class Places:
    """Candidates for the runtime directory, best first, some of which belong to somebody else.

    Attributes:
        strangers: Names of those.
    """

    def __init__(self, base: Path, names: Sequence[str]) -> None:
        self.base = base
        self.names = names
        self.strangers: set[str] = set()

    def path(self, name: str) -> str:
        return str(self.base / name)

    def candidates(self) -> list[str]:
        return [self.path(name) for name in self.names]

    def lstat(self, path: str) -> os.stat_result:
        found = os.lstat(path)
        if any(path == self.path(name) for name in self.strangers):
            fields = list(found)
            fields[stat.ST_UID] = os.getuid() + 1
            return os.stat_result(fields)
        return found

    def take(self, name: str) -> None:
        """Have a stranger make the directory."""
        os.makedirs(self.path(name), exist_ok=True)
        self.strangers.add(name)

    def leave(self, name: str) -> None:
        self.strangers.discard(name)
        shutil.rmtree(self.path(name), ignore_errors=True)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Short paths, as runtime directories have them."""
    base = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))
    made = Places(base, ["login", "temporary", "home"])
    monkeypatch.setattr(owner_lock, "_runtime_directory_candidates", made.candidates)
    monkeypatch.setattr(owner_lock, "_lstat", made.lstat)
    yield made
    shutil.rmtree(base)


def base_of(files: OwnerFiles) -> str:
    return Path(files.directory).parent.name


def test_a_place_that_another_user_has_is_passed_over_and_that_is_said(places: Places) -> None:
    places.take("login")
    files = owner_files_for("/data")
    assert base_of(files) == "temporary"
    said = passed_over_sentence(files)
    assert f"{places.path('login')} belongs to user" in said
    assert str(os.getuid() + 1) in said
    assert f"{places.path('temporary')} is used instead" in said
    found = by_name(owner_findings(lambda: files, "1.0"))
    assert found["runtime directory"].verdict == "warning"
    assert found["runtime directory"].detail == said
    places.leave("login")
    assert passed_over_sentence(owner_files_for("/data")) == ""


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_a_place_that_is_no_directory_is_passed_over(places: Places, kind: str, tmp_path: Path) -> None:
    place = Path(places.path("login"))
    if kind == "file":
        place.write_text("", encoding="utf-8")
    else:
        place.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    files = owner_files_for("/data")
    assert base_of(files) == "temporary"
    assert ("is not a directory" if kind == "file" else "is a link") in passed_over_sentence(files)


def test_a_place_of_ours_that_others_can_read_is_closed_to_them(places: Places) -> None:
    os.mkdir(places.path("login"))
    os.chmod(places.path("login"), 0o777)
    assert base_of(owner_files_for("/data")) == "login"
    assert stat.S_IMODE(os.stat(places.path("login")).st_mode) == 0o700


def test_without_any_place_the_reasons_are_said(places: Places) -> None:
    for name in places.names:
        places.take(name)
    with pytest.raises(NoRuntimeDirectory, match="belongs to user") as caught:
        owner_files_for("/data")
    assert all(places.path(name) in str(caught.value) for name in places.names)


@AS_ROOT
def test_a_directory_of_another_user_is_really_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, NOBODY, NOBODY)
    monkeypatch.setattr(owner_lock, "_runtime_directory_candidates", lambda: [str(theirs), str(ours)])
    files = owner_files_for("/data")
    assert base_of(files) == "ours"
    assert f"({NOBODY})" in passed_over_sentence(files)
    assert list(theirs.iterdir()) == []


@AS_ROOT
def test_what_a_stranger_locks_in_a_directory_of_his_counts_for_nothing(places: Places, tmp_path: Path) -> None:
    files = owner_files_for("/data")
    name = Path(files.directory).name
    places.take("temporary")
    planted = Path(places.path("temporary"), name)
    planted.mkdir()
    with OwnerLock(OwnerFiles(str(planted))) as strangers:
        assert strangers.acquire()
        with OwnerLock(owner_files_for("/data")) as ours:
            assert ours.acquire()


# One owner --------------------------------------------------------------------------------------------------------


WORLDS = [frozenset(each) for size in range(3) for each in itertools.combinations(["login", "temporary"], size)]
"""Which places strangers may have; the home is the user's own."""


@pytest.mark.parametrize("first", WORLDS, ids=sorted)
@pytest.mark.parametrize("second", WORLDS, ids=sorted)
@pytest.mark.parametrize("third", WORLDS, ids=sorted)
def test_there_are_never_two_owners_whatever_strangers_take_and_leave(
    places: Places, first: frozenset[str], second: frozenset[str], third: frozenset[str]
) -> None:
    """Two processes look for their files, then lock, in every order; strangers come and go between all of it."""

    def world(taken: frozenset[str]) -> None:
        for name in ("login", "temporary"):
            if name in taken and not os.path.lexists(places.path(name)):  # nobody can take what is the user's already
                places.take(name)
            elif name not in taken and name in places.strangers:
                places.leave(name)

    world(first)
    one = OwnerLock(owner_files_for("/data"))
    world(second)
    two = OwnerLock(owner_files_for("/data"))
    with one, two:
        assert one.acquire()
        world(third)
        assert not two.acquire()
        late = owner_files_for("/data")
        assert late.directory == one.owner_files.directory
        with OwnerLock(late) as three:
            assert not three.acquire()


def test_a_process_that_ran_before_finds_the_owner_of_another_place(places: Places) -> None:
    relay = owner_files_for("/data")
    assert base_of(relay) == "login"
    # A service that cleans the directory for temporary files:
    shutil.rmtree(places.path("login"))
    places.take("login")
    with OwnerLock(owner_files_for("/data")) as owner:
        assert owner.acquire()
        assert base_of(owner.owner_files) == "temporary"
        assert base_of(owner_files_now(relay)) == "temporary"
        places.leave("login")  # the stranger is gone: the owner stays where it is, and is found there
        assert base_of(owner_files_now(relay)) == "temporary"
    assert base_of(owner_files_now(relay)) == "login"


def test_a_place_taken_between_choosing_and_locking_is_not_locked(places: Places) -> None:
    files = owner_files_for("/data")
    places.strangers.add("login")  # removed while nobody used it, and made again by somebody else
    with OwnerLock(files) as lock, pytest.raises(PermissionError, match="belongs to user"):
        lock.acquire()


def test_two_that_lock_at_the_same_time_in_two_places_are_not_both_owners(places: Places) -> None:
    places.take("login")
    one = OwnerLock(owner_files_for("/data"))
    places.leave("login")
    two = OwnerLock(owner_files_for("/data"))
    assert base_of(one.owner_files) != base_of(two.owner_files)
    with one, two:
        assert one.acquire()
        assert not two.acquire()
        one.release()
        assert two.acquire()


# Places -----------------------------------------------------------------------------------------------------------


def test_the_last_place_is_below_the_home_of_the_user_database_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pwd

    before = owner_lock._runtime_directory_candidates()
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "TMPDIR", "USER"):
        monkeypatch.setenv(name, str(tmp_path))
    assert owner_lock._runtime_directory_candidates() == before
    home = pwd.getpwuid(os.getuid()).pw_dir
    if os.path.isdir(home) and os.stat(home).st_uid == os.getuid():
        assert before[-1].startswith(home.rstrip("/") + "/")
    else:
        assert not any(each.startswith(home.rstrip("/") + "/") for each in before)


def test_a_place_too_long_for_a_socket_is_the_last_resort_and_served_on_loopback(places: Places) -> None:
    long = "h" * 80
    places.names = [long, "temporary"]
    assert base_of(owner_files_for("/data")) == "temporary"
    places.take("temporary")
    files = owner_files_for("/data")
    assert base_of(files) == long
    address = listen(files, "aaaaaaaaaa")
    address.socket.close()
    assert address.endpoint["kind"] == "tcp"
    assert stat.S_IMODE(os.stat(files.token_file).st_mode) == 0o600


async def test_without_any_place_the_index_is_written_all_the_same(
    places: Places, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in places.names:
        places.take(name)
    async with open_alone(Config(data_dir=tmp_path / "data")) as engine:
        async for status in engine.watch():
            if status.owner.state not in ("uninitialized", "initializing"):
                break
        assert status.owner.state == "serving"
    assert "belongs to user" in caplog.text


# The whole program -----------------------------------------------------------------------------------------------


@AS_ROOT
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv runs the program as another user")
def test_a_user_whose_place_is_taken_indexes_searches_and_stops(tmp_path: Path) -> None:
    """The user ``nobody`` without a home; root has made the directory in ``/tmp`` first."""
    uid = next(uid for uid in range(61_234, 62_000) if not os.path.lexists(f"/tmp/folder-mcp-{uid}"))
    place = Path(f"/tmp/folder-mcp-{uid}")
    base = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))
    home = Home(base)
    os.chmod(base, 0o755)
    for each in (base, home.notes):
        os.chown(each, uid, uid)
    place.mkdir()
    place.chmod(0o777)

    # The user may read all files, for the interpreter may lie in root's home, and owns none.
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    switch = [shutil.which("setpriv") or "", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *reading]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*switch, sys.executable, "-m", "mcp_server", *words, *home.flags]
        environ = {"PATH": os.environ["PATH"], "HOME": str(base)}
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, env=environ)

    try:
        if run("--help").returncode:
            pytest.skip("this system lets no other user run the program")
        index = run("index", str(home.notes))
        assert "1 files indexed" in index.stdout, index.stdout + index.stderr
        assert f"{place} belongs to user root (0)" in index.stderr
        search = run("search", "signing", "--mode", "keyword")
        assert search.returncode == 0, search.stderr
        assert "keys.md" in search.stdout
        stop = run("stop")
        assert stop.returncode == 1
        assert f"{place} belongs to user root (0)" in stop.stderr
        assert "OSError" not in stop.stderr
        assert "belongs to user root" in run("doctor").stdout
        assert list(place.iterdir()) == []
    finally:
        shutil.rmtree(place)
        shutil.rmtree(base)
