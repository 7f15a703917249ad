"""File descriptors run out: half-open connections to every port of a real owner, whose process may have 256."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from relays import LIMIT, ROOT, Home

from mcp_server.processes.accepting import PendingHandshakes

DESCRIPTORS = 256
HALF_OPEN = 400

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="counts through /proc")]


@pytest.fixture(autouse=True)
def room_for_the_attacker() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * HALF_OPEN:
        pytest.skip("this process may not open enough sockets itself")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * HALF_OPEN), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Served:
    """``serve --http`` in a process that may have few descriptors: it is the owner, with page and HTTP."""

    def __init__(self, home: Home) -> None:
        self.home = home
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))"
        words = ["serve", str(home.notes), "--http", "127.0.0.1:0", *home.flags]
        program = f"{limit}; import sys; sys.argv[1:] = {words!r}; from mcp_server.__main__ import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        assert self.process.stderr
        line = self.process.stderr.readline()
        assert "serving http://" in line, line
        self.http = urlsplit(line.split("serving ")[1].split(";")[0])
        self.token = (home.data / "http-token").read_text(encoding="ascii").strip()
        page = home.command("ui").stdout.strip()
        self.page, self.page_token = urlsplit(page), page.partition("#")[2]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    home = Home(tmp_path)
    made = Served(home)
    yield made
    made.close()
    home.close()


@contextlib.contextmanager
def half_open(address: object) -> Iterator[None]:
    """Hold connections that send the beginning of a request, or of a handshake, and nothing more."""
    with contextlib.ExitStack() as stack:
        for _ in range(HALF_OPEN):
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            one = stack.enter_context(socket.socket(family))
            one.settimeout(5)
            with contextlib.suppress(OSError):  # the queue is full for a moment, or it has been closed already
                one.connect(address)
                one.sendall(b"G")
        yield


def page_answers(served: Served) -> int:
    connection = http.client.HTTPConnection(served.page.hostname or "", served.page.port, timeout=20)
    try:
        body = json.dumps({"query": "signing", "mode": "keyword"})
        connection.request("POST", "/api/search", body, {"Authorization": f"Bearer {served.page_token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def http_answers(served: Served) -> int:
    connection = http.client.HTTPConnection(served.http.hostname or "", served.http.port, timeout=20)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        connection.request("POST", "/mcp", body, {
            "Authorization": f"Bearer {served.token}", "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        })  # fmt: skip
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("where", ["page", "http", "socket"])
def test_connections_without_proof_do_not_keep_an_honest_one_out(served: Served, where: str) -> None:
    home = served.home
    client = home.client().begin()
    assert client.finds("signing")
    address: object = {
        "page": (served.page.hostname, served.page.port),
        "http": (served.http.hostname, served.http.port),
        "socket": home.note()["endpoint"]["path"],
    }[where]
    with half_open(address):
        began = time.monotonic()
        assert page_answers(served) == 200
        assert http_answers(served) not in (401, 503)
        assert home.command("search", "signing", "--mode", "keyword").returncode == 0
        assert time.monotonic() - began < LIMIT
        (home.notes / "late.md").write_text("Zebrafish eat at noon.\n", encoding="utf-8")
        assert client.finds("zebrafish")
        assert served.descriptors() < DESCRIPTORS - 32
    assert served.process.poll() is None
    assert page_answers(served) == 200


def test_an_owner_without_descriptors_lives_on_and_serves_again_when_there_are_some(tmp_path: Path) -> None:
    """All descriptors are taken inside the owner itself, by what it cannot close: no cap helps there."""
    home = Home(tmp_path)
    program = Path(__file__).with_name("starved_owner.py")
    command = [sys.executable, str(program), *home.flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdin
        assert owner.stdout
        assert owner.stdout.readline() == b"READY\n"
        client = home.client(str(home.notes)).begin()
        assert client.finds("signing")
        before = _cpu(owner.pid)
        owner.stdin.write(b"take\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == b"TAKEN\n"
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(40)]
            for one in waiting:
                one.connect(home.note()["endpoint"]["path"])
            for one in waiting:  # answered never, and closed by the owner when their time is over
                one.settimeout(LIMIT)
            assert waiting[0].recv(1) == b""
            assert owner.poll() is None
            spent = _cpu(owner.pid) - before
            assert spent < 5.0, f"{spent} s of CPU: it spins"
            owner.stdin.write(b"free\n")
            owner.stdin.flush()
            assert owner.stdout.readline() == b"FREED\n"
            assert home.command("search", "signing", "--mode", "keyword").returncode == 0
        assert home.owner() == owner.pid
        owner.kill()
    home.close()


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_the_oldest_handshake_gives_way_to_newer_ones() -> None:
    import anyio

    handshakes, given_up, started = PendingHandshakes(), [], []

    async def wait(number: int) -> None:
        started.append(number)
        with handshakes.limited():
            await anyio.sleep_forever()
        given_up.append(number)

    limit = handshakes._unproven.limit
    async with anyio.create_task_group() as tasks:
        for number in range(limit + 3):
            tasks.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        assert given_up == [0, 1, 2]
        tasks.cancel_scope.cancel()
