"""One owner, however many clients: real processes, real sockets, real ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from relays import ROOT, Home, wait_gone

from mcp_server.processes.owner_lock import is_held

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def test_a_client_is_served_by_a_relay_of_an_owner(home: Home) -> None:
    client = home.client(str(home.notes))
    assert client.initialize()["result"]["serverInfo"]["name"] == "folder-mcp"
    assert client.finds("signing key") == [str(home.notes / "keys.md")]
    assert home.owners() == [home.owner()]
    assert client.status()["owner"]["pid"] == home.owner() != client.process.pid


@pytest.mark.parametrize("_round", range(3))
def test_eight_clients_on_a_cold_directory_elect_one_owner(home: Home, _round: int) -> None:
    clients = [home.client(str(home.notes)) for _ in range(8)]
    with_errors: list[BaseException] = []

    def use(number: int) -> None:
        try:
            clients[number].begin()
            assert clients[number].status()["owner"]["pid"] == home.owner()
        except BaseException as error:
            with_errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not with_errors
    assert home.owners() == [home.owner()]
    assert clients[0].status()["owner"]["clients"] == 8


@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "2026-07-28"])
def test_a_killed_owner_is_replaced_without_the_client_noticing(home: Home, modern: bool) -> None:
    client = home.client(str(home.notes), modern=modern).begin()
    first = client.status()["owner"]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    second = client.status()["owner"]["pid"]
    assert second != first
    assert home.owners() == [second]
    assert client.finds("signing")


def test_a_reading_call_in_flight_is_asked_again_and_another_is_not(home: Home) -> None:
    client = home.client(str(home.notes)).begin()
    assert client.finds("signing")
    first = home.owner()
    os.kill(first, signal.SIGSTOP)  # so that both are certainly in flight
    reading = client.send("tools/call", name="search", arguments={"query": "signing"})
    writing = client.send("tools/call", name="reindex", arguments={})
    client.send("ping")
    os.kill(first, signal.SIGKILL)
    error = client.answer(writing)["error"]
    assert "not known whether it was done" in error["message"]
    assert error["data"]["retryable"] is False
    assert client.answer(reading)["result"]["structuredContent"]["hits"]


def test_a_silent_owner_is_not_dead(home: Home) -> None:
    client = home.client(str(home.notes)).begin()
    assert client.finds("signing")
    first = home.owner()
    os.kill(first, signal.SIGSTOP)
    try:
        assert client.finds("signing") == [str(home.notes / "keys.md")]
        answer = client.tool("search", query="signing")["result"]["structuredContent"]
        assert answer["mode_used"] == "keyword"
        assert any("does not answer" in notice for notice in answer["notices"])
        late = home.client(str(home.notes)).begin()
        assert late.finds("signing")
        assert home.owners() == [first]
    finally:
        os.kill(first, signal.SIGCONT)
    while client.status()["owner"]["pid"] != first:  # it goes back as soon as the owner answers again
        pass
    assert not any(
        "does not answer" in n
        for n in client.tool("search", query="signing")["result"]["structuredContent"]["notices"]
    )


def test_what_a_dead_owner_left_is_no_obstacle(home: Home) -> None:
    home.client(str(home.notes)).begin().status()
    first = home.owner()
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    assert Path(home.owner_files.state_file).exists()
    assert Path(home.owner_files.directory, "owner.sock").exists()
    assert home.client().begin().status()["owner"]["pid"] != first
    assert Path(home.note()["endpoint"]["path"]).name == "owner.sock"


def test_a_note_that_means_nothing_is_no_obstacle(home: Home) -> None:
    Path(home.owner_files.state_file).write_text('{"endpoint": ["?"], "pid": "x"', encoding="utf-8")
    assert home.client().begin().status()["owner"]["pid"] == home.owner()


@pytest.mark.parametrize("answer", [b"", b"hello\n", b'{"unexpected": true}\n'], ids=["leaves", "text", "json"])
def test_a_squatter_on_the_address_is_left_alone(home: Home, answer: bytes) -> None:
    path = Path(home.owner_files.directory, "owner.sock")
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(str(path))
        squatter.listen(16)

        def squat() -> None:
            while True:
                try:
                    one, _ = squatter.accept()
                except OSError:
                    return
                with one, contextlib.suppress(OSError):
                    one.sendall(answer)

        threading.Thread(target=squat, daemon=True).start()
        client = home.client(str(home.notes)).begin()
        assert client.status()["owner"]["pid"] == home.owner()
        assert home.note()["endpoint"]["path"] != str(path)
        assert path.exists()
        squatter.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", ["EOF", "SIGTERM", "broken pipe"])
def test_a_relay_ends_with_its_client(home: Home, how: str) -> None:
    client = home.client(str(home.notes)).begin()
    client.status()
    if how == "EOF":
        client.process.stdin.close()
    elif how == "SIGTERM":
        client.process.terminate()
    else:
        client.process.stdout.close()
        # The test's reader may be inside a read, which keeps the pipe open until it returns: one answer is not enough.
        for _ in range(20):
            with contextlib.suppress(BrokenPipeError):
                client.send("ping")
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.process.wait(timeout=1)
                break
    assert client.process.wait(timeout=2) == 0
    assert home.owners() == [home.owner()]


def test_a_leaked_relay_notices_its_parents_death(home: Home, tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "read, write = os.pipe()\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=read, stdout=subprocess.DEVNULL, pass_fds=[write])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-m", "mcp_server", "serve", *home.flags]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    with parent:
        assert parent.stdout
        relay = int(parent.stdout.readline())
        home.client().begin()  # by now there is an owner, and the relay has long been watching
        parent.kill()
        parent.wait()
        assert wait_gone(relay, 2.0) < 2.0


def test_one_client_that_starts_two_servers_is_served_by_one_owner(home: Home) -> None:
    first, second = home.client(str(home.notes)), home.client(str(home.notes))
    assert first.begin().status()["owner"]["pid"] == second.begin().status()["owner"]["pid"]
    assert len(home.owners()) == 1


def test_each_client_searches_what_it_named_and_the_owner_keeps_all(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "vault.md").write_text("The signing key lives in the vault.\n", encoding="utf-8")
    one, two, all_ = home.client(str(home.notes)).begin(), home.client(str(other)).begin(), home.client().begin()
    assert one.finds("signing") == [str(home.notes / "keys.md")]
    assert two.finds("signing") == [str(other / "vault.md")]
    assert set(all_.found("signing")) == {str(home.notes / "keys.md"), str(other / "vault.md")}


def test_a_client_with_reduced_environment_finds_the_same_owner(home: Home) -> None:
    full = home.client(str(home.notes)).begin()
    bare = home.client(str(home.notes), env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}).begin()
    assert full.status()["owner"]["pid"] == bare.status()["owner"]["pid"]


def test_an_owner_that_nobody_needs_ends(tmp_path: Path) -> None:
    home = Home(tmp_path, "[owner]\nidle_exit = 0.2\n")
    try:
        client = home.client().begin()
        pid = client.status()["owner"]["pid"]
        client.close()
        wait_gone(pid)
        assert not is_held(home.owner_files)
        assert not Path(home.owner_files.state_file).exists()
    finally:
        home.close()


def test_without_linger_the_owner_ends_with_its_last_client(tmp_path: Path) -> None:
    home = Home(tmp_path, "[owner]\nlinger = 0\n")
    try:
        one, two = home.client().begin(), home.client().begin()
        pid = one.status()["owner"]["pid"]
        one.close()
        assert two.status()["owner"]["pid"] == pid
        two.close()
        wait_gone(pid)
    finally:
        home.close()


def test_a_candidate_beside_an_owner_leaves_quietly(home: Home) -> None:
    home.client().begin().status()
    done = home.command("owner")
    assert (done.returncode, done.stdout, done.stderr) == (0, "BUSY\n", "")


def test_a_child_forked_by_the_owner_does_not_hold_the_claim(home: Home) -> None:
    script = (
        "import os, sys\n"
        "from mcp_server.processes.owner_lock import OwnerFiles, OwnerLock\n"
        "claim = OwnerLock(OwnerFiles(sys.argv[1]))\n"
        "assert claim.acquire()\n"
        "if os.fork() == 0:\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "print('forked', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, home.owner_files.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"forked\n"
        holder.wait()
        assert not is_held(home.owner_files)
