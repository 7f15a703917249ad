"""Versions, stopping, the loopback transport, and commands through the owner: real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from relays import LIMIT, ROOT, Client, Home, wait_gone

from mcp_server.processes.owner_lock import OwnerLock, is_held, succession_claimed
from mcp_server.state_files import write_state

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def checkout(base: Path, version: str) -> Path:
    """Another version of this program: the same code under another name."""
    root = base / f"v{version}"
    root.mkdir()
    for package in ("mcp_server", "indexer"):
        (root / package).symlink_to(ROOT / package)
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', encoding="utf-8")
    return root


def owner_of(home: Home, client: Client) -> dict[str, Any]:
    """The owner that serves a client; a process of the relay's own may answer first, on a busy machine."""
    until = time.monotonic() + LIMIT
    while (found := client.status()["owner"])["pid"] not in home.owners():
        assert time.monotonic() < until, f"no owner serves it: {found}"
    return found  # type: ignore[no-any-return]


def test_a_newer_relay_replaces_an_older_owner_once_and_an_older_one_attaches(home: Home, tmp_path: Path) -> None:
    old_root, new_root = checkout(tmp_path, "0.0.9"), checkout(tmp_path, "7.0.0")
    old = home.client(root=old_root).begin()
    first = owner_of(home, old)
    assert first["version"] == "0.0.9"
    new = home.client(root=new_root).begin()
    wait_gone(first["pid"])
    second = owner_of(home, new)
    assert second["version"] == "7.0.0"
    assert owner_of(home, old)["pid"] == second["pid"]  # it noticed nothing
    late = home.client(root=old_root).begin()
    assert owner_of(home, late)["pid"] == second["pid"]
    assert owner_of(home, new)["clients"] == 3
    assert home.owners() == [second["pid"]]


def test_an_older_relay_leaves_the_start_to_a_newer_one_however_long_that_takes(home: Home, tmp_path: Path) -> None:
    old = home.client(root=checkout(tmp_path, "0.0.9")).begin()
    first = old.status()["owner"]["pid"]
    with succession_claimed(home.owner_files):  # as a newer relay has it, which is slow
        write_state(home.owner_files.successor_file, {"version": "7.0.0"})
        os.kill(first, signal.SIGKILL)
        wait_gone(first)
        asked = old.send("tools/call", name="status", arguments={})
        new = home.client(root=checkout(tmp_path, "7.0.0")).begin()
        second = owner_of(home, new)
    assert second["version"] == "7.0.0"
    assert "result" in old.answer(asked)
    assert owner_of(home, old)["pid"] == second["pid"]


def test_a_call_in_flight_is_answered_before_an_owner_makes_room(home: Home, tmp_path: Path) -> None:
    old = home.client(root=checkout(tmp_path, "0.0.9")).begin()
    asked = old.send("tools/call", name="status", arguments={})
    new = home.client(root=checkout(tmp_path, "7.0.0")).begin()
    assert new.status()["owner"]["version"] == "7.0.0"
    assert "result" in old.answer(asked)


def test_stop_ends_the_owner_and_the_next_call_starts_another(home: Home) -> None:
    client = home.client().begin()
    first = client.status()["owner"]["pid"]
    done = home.command("stop")
    assert (done.returncode, done.stdout) == (0, f"stopped process {first}\n")
    wait_gone(first)
    assert client.status()["owner"]["pid"] != first


def test_there_may_be_nothing_to_stop(home: Home) -> None:
    done = home.command("stop")
    assert (done.returncode, done.stdout) == (0, "no background process is running\n")


def test_stop_says_that_a_silent_owner_stays_and_force_kills_it(home: Home) -> None:
    client = home.client().begin()
    pid = client.status()["owner"]["pid"]
    client.close()
    os.kill(pid, signal.SIGSTOP)
    done = home.command("stop")
    assert done.returncode == 1
    assert f"process {pid} does not answer" in done.stderr
    assert home.owners() == [pid]
    assert home.command("stop", "--force").returncode == 0
    wait_gone(pid)


def test_commands_use_the_owner_and_start_one(home: Home) -> None:
    index = home.command("index", str(home.notes), "--json")
    pid = home.owner()
    assert json.loads(index.stdout)["indexed"] == 1
    found = json.loads(home.command("search", "signing", "--json").stdout)
    assert [hit["path"] for hit in found["hits"]] == [str(home.notes / "keys.md")]
    read = json.loads(home.command("read", str(home.notes / "keys.md"), "--json").stdout)
    assert "signing key" in read["text"]
    status = json.loads(home.command("status", "--json").stdout)
    assert status["owner"]["pid"] == pid == home.owner()
    assert home.owners() == [pid]


def test_an_error_of_the_owner_is_the_commands_error(home: Home) -> None:
    home.client(str(home.notes)).begin().status()
    done = home.command("read", str(home.base / "nowhere.md"))
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr


def test_without_daemon_everything_happens_in_one_process(home: Home) -> None:
    index = home.command("index", str(home.notes), "--json", "--no-daemon")
    assert json.loads(index.stdout)["indexed"] == 1
    found = json.loads(home.command("search", "signing", "--json", "--no-daemon").stdout)
    assert len(found["hits"]) == 1
    assert home.owners() == []
    client = home.client(words=["--no-daemon"]).begin()
    assert client.status()["owner"]["pid"] == client.process.pid
    assert home.owners() == []


def test_beside_a_process_that_has_the_index_for_itself_others_read(home: Home) -> None:
    alone = home.client(str(home.notes), words=["--no-daemon"]).begin()
    assert alone.finds("signing")
    late = home.client().begin()
    assert late.finds("signing")
    notices = late.tool("search", query="signing")["result"]["structuredContent"]["notices"]
    assert any("has the index for itself" in notice for notice in notices)
    assert home.owners() == []
    alone.process.stdin.close()
    alone.process.wait(10)
    while not home.owners():  # the relay goes over to an owner as soon as there can be one
        late.status()
    while late.status()["owner"]["pid"] not in home.owners():
        pass


def test_an_owner_that_cannot_start_leaves_its_client_with_the_reason(home: Home) -> None:
    home.config.write_text("[search]\nwiat = 5\n", encoding="utf-8")
    client = home.client().begin()
    answer = client.tool("search", query="x")["result"]
    assert answer["isError"]
    assert 'did you mean "wait"?' in answer["content"][0]["text"]


def test_relays_that_read_another_configuration_are_told_apart_in_status(home: Home) -> None:
    one = home.client().begin()
    other = home.base / "other.toml"
    other.write_text(home.config.read_text(encoding="utf-8") + "\n[search]\nwait = 7\n", encoding="utf-8")
    home.config = other
    two = home.client().begin()
    relays = two.status()["owner"]["relays"]
    assert {relay["pid"]: relay["same_config"] for relay in relays} == {one.process.pid: True, two.process.pid: False}


def test_the_claim_taken_elsewhere_without_an_answer_is_respected(home: Home) -> None:
    """Somebody holds the lock and says nothing: no second owner, word search in a process of the relay's own."""
    with OwnerLock(home.owner_files) as lock:
        assert lock.acquire()
        client = home.client(str(home.notes)).begin()
        assert client.status()["owner"]["pid"] != client.process.pid
        assert home.owners() == []


class Loopback:
    """An owner on the transport that Windows has."""

    def __init__(self, home: Home) -> None:
        command = [sys.executable, "-m", "mcp_server", "owner", "--tcp", *home.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"READY\n"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def loopback(home: Home) -> Iterator[Loopback]:
    made = Loopback(home)
    yield made
    made.close()


@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "2026-07-28"])
def test_the_loopback_transport_serves_as_the_other(home: Home, loopback: Loopback, modern: bool) -> None:
    assert home.note()["endpoint"]["kind"] == "tcp"
    client = home.client(str(home.notes), modern=modern).begin()
    assert client.finds("signing")
    assert client.status()["owner"]["pid"] == loopback.process.pid
    loopback.process.kill()
    loopback.process.wait()
    assert client.finds("signing")
    assert client.status()["owner"]["pid"] == home.owner() != loopback.process.pid


def test_a_program_on_a_dead_owners_port_learns_nothing_and_stops_nobody(home: Home, loopback: Loopback) -> None:
    loopback.process.kill()
    loopback.process.wait()
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as squatter:  # the system may give the same port, we cannot ask for it
        left = home.note()
        left["endpoint"]["port"] = squatter.getsockname()[1]
        write_state(home.owner_files.state_file, left)

        def squat() -> None:
            one, _ = squatter.accept()
            with one:
                heard.append(one.recv(65536))
                one.sendall(heard[0])
                heard.append(one.recv(65536))

        thread = threading.Thread(target=squat)
        thread.start()
        client = home.client().begin()
        assert client.status()["owner"]["pid"] == home.owner()
        thread.join(10)
    assert b"challenge" in heard[0]
    assert b"proof" not in heard[0]
    assert heard[1] == b""
    assert is_held(home.owner_files)


@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "2026-07-28"])
def test_an_owner_that_only_a_new_process_can_help_is_replaced(home: Home, modern: bool) -> None:
    command = [sys.executable, str(Path(__file__).with_name("wedged_owner.py")), *home.flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as wedged:
        assert wedged.stdin
        assert wedged.stdout
        assert wedged.stdout.readline() == b"READY\n"
        client = home.client(str(home.notes), modern=modern).begin()
        assert client.finds("signing")
        wedged.stdin.close()
        assert wedged.wait(30) == 75
        assert client.finds("signing")
        assert client.status()["owner"]["pid"] == home.owner() != wedged.pid


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdks_own_client_works_through_a_relay_and_a_kill(home: Home, mode: str) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    arguments = ["-m", "mcp_server", "serve", *home.flags, str(home.notes)]
    server = StdioServerParameters(command=sys.executable, args=arguments, cwd=str(ROOT))
    async with Client(stdio_client(server), mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "read", "status"}
        first = (await client.call_tool("status", {})).structured_content["owner"]["pid"]
        os.kill(first, signal.SIGKILL)
        second = (await client.call_tool("status", {})).structured_content["owner"]["pid"]
        assert second == home.owner() != first
