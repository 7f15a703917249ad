"""The server as a process, talked to as clients do: bytes on pipes, signals, parents that die."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
FAKE = [sys.executable, str(HERE / "fake_main.py")]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
END_S = 2.5
"""Seconds within which a process must end: two, and a little for a busy machine."""


class Server:
    """A running server; everything it writes is kept."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            bufsize=0,
        )
        self.out: list[bytes] = []
        self.err: list[bytes] = []
        self._news: queue.Queue[tuple[str, bytes]] = queue.Queue()
        for stream, name, kept in ((self.process.stdout, "out", self.out), (self.process.stderr, "err", self.err)):
            threading.Thread(target=self._read, args=(stream, name, kept), daemon=True).start()

    def _read(self, stream: Any, name: str, kept: list[bytes]) -> None:
        for line in stream:
            kept.append(line)
            self._news.put((name, line))

    def wait_for(self, wanted: Callable[[str, bytes], bool], seconds: float = 40) -> bytes:
        deadline = time.monotonic() + seconds
        while True:
            try:
                name, line = self._news.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing came; stderr: {b''.join(self.err).decode()}") from None
            if wanted(name, line):
                return line

    def send(self, message: object) -> None:
        assert self.process.stdin
        text = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(text.encode() + b"\n")

    def answer(self, number: int) -> dict[str, Any]:
        line = self.wait_for(lambda name, line: name == "out" and json.loads(line).get("id") == number)
        return json.loads(line)  # type: ignore[no-any-return]

    def ask(self, number: int, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})
        return self.answer(number)

    def initialize(self) -> dict[str, Any]:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = self.ask(1, "initialize", params)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def call(self, number: int, tool: str, **arguments: object) -> dict[str, Any]:
        return self.ask(number, "tools/call", {"name": tool, "arguments": arguments})

    def end(self, how: str) -> tuple[int, float]:
        started = time.monotonic()
        if how == "EOF":
            assert self.process.stdin
            self.process.stdin.close()
        else:
            self.process.send_signal(getattr(signal, how))
        code = self.process.wait(timeout=15)
        return code, time.monotonic() - started

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def start(tmp_path: Path, notes: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(*arguments: str, command: list[str] = FAKE, **environment: str) -> Server:
        data = ["--data-dir", str(tmp_path / "data")]
        server = Server([*command, "serve", *data, *(arguments or [str(notes)])], **environment)
        started.append(server)
        return server

    yield begin
    for server in started:
        server.close()


@pytest.mark.parametrize("busy", ["", "task", "thread"])
@pytest.mark.parametrize(("how", "code"), [("EOF", 0), ("SIGTERM", 0), ("SIGINT", 130)])
def test_the_process_ends_within_two_seconds(start: Callable[..., Server], busy: str, how: str, code: int) -> None:
    server = start(FAKE_BUSY=busy)
    server.initialize()
    if busy:
        message = {"name": "search", "arguments": {"query": "key"}}
        server.send({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": message})
        server.wait_for(lambda name, line: name == "err" and line == b"busy\n")
    ended, seconds = server.end(how)
    assert (ended, seconds < END_S) == (code, True), (ended, seconds, b"".join(server.err).decode())
    assert b"Traceback" not in b"".join(server.err)


def test_search_finds_and_stray_output_never_reaches_the_client(start: Callable[..., Server]) -> None:
    server = start(FAKE_NOISE="1")
    assert server.initialize()["result"]["serverInfo"]["name"] == "folder-mcp"
    result = server.call(2, "search", query="signing key")["result"]
    assert result["structuredContent"]["hits"][0]["path"].endswith("keys.md")
    server.end("EOF")
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in server.out)
    assert b"stray print\n" in server.err
    assert b"stray child\n" in server.err


def test_malformed_lines_do_not_end_the_conversation(start: Callable[..., Server]) -> None:
    server = start()
    for line in ("{not json", "", "[]", '{"id": 7}', '"text"', "\ufffd"):
        server.send(line)
    server.initialize()
    server.send('{"jsonrpc": "2.0", "id": 3, "method":')
    assert server.ask(4, "no/such/method")["error"]["code"] == -32601
    assert server.call(5, "status")["result"]["structuredContent"]["services"]


def test_a_client_that_probes_and_gives_up_can_still_initialize(start: Callable[..., Server]) -> None:
    server = start()
    found = server.ask(1, "server/discover", {"_meta": MODERN})["result"]
    assert "2026-07-28" in json.dumps(found)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    assert server.ask(2, "initialize", params)["result"]["protocolVersion"] == "2025-11-25"
    server.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert [tool["name"] for tool in server.ask(3, "tools/list")["result"]["tools"]] == ["search", "read", "status"]


def test_a_modern_client_probes_and_goes_on(start: Callable[..., Server]) -> None:
    server = start()
    server.ask(1, "server/discover", {"_meta": MODERN})
    params = {"name": "search", "arguments": {"query": "flour"}, "_meta": MODERN}
    result = server.ask(2, "tools/call", params)["result"]
    assert result["structuredContent"]["hits"][0]["path"].endswith("bread.md")


LAUNCHER = """
import json, subprocess, sys, time
child = subprocess.Popen(json.loads(sys.argv[1]), stdin=int(sys.argv[2]), stdout=subprocess.PIPE)
print(child.pid, flush=True)
child.stdout.readline()
print("up", flush=True)
time.sleep(60)
"""


def test_the_server_ends_when_its_parent_dies_though_the_pipe_stays_open(tmp_path: Path, notes: Path) -> None:
    reader, writer = os.pipe()
    command = json.dumps([*FAKE, "serve", "--data-dir", str(tmp_path / "data")])
    launcher = [sys.executable, "-c", LAUNCHER, command, str(reader)]
    parent = subprocess.Popen(launcher, stdout=subprocess.PIPE, pass_fds=[reader])
    assert parent.stdout
    try:
        child = int(parent.stdout.readline())
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        os.write(writer, json.dumps(message).encode() + b"\n")
        assert parent.stdout.readline() == b"up\n"
        ended = os.pidfd_open(child)
        parent.kill()
        parent.wait()
        ready, _, _ = select.select([ended], [], [], END_S)
        os.close(ended)
        assert ready, "the server outlived its parent"
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        os.close(writer)
        os.close(reader)


def test_a_wrong_configuration_is_told_by_the_running_server(start: Callable[..., Server], tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[serach]\nwait = 3\n", encoding="utf-8")
    server = start("--config", str(config))
    server.initialize()
    status = server.call(2, "status")["result"]
    assert 'did you mean "search"' in status["content"][0]["text"]
    assert 'did you mean "search"' in status["structuredContent"]["owner"]["detail"]
    search = server.call(3, "search", query="key")["result"]
    assert search["isError"]
    assert "serach" in search["content"][0]["text"]


def test_a_folder_that_cannot_be_indexed_is_told_and_the_others_served(
    start: Callable[..., Server], notes: Path
) -> None:
    server = start(str(notes), str(notes / "nowhere"))
    server.initialize()
    result = server.call(2, "search", query="signing")["result"]["structuredContent"]
    assert {hit["title"] for hit in result["hits"]} == {"keys.md"}
    assert "nowhere does not exist" in " ".join(result["notices"])


def test_the_first_answer_comes_before_any_heavy_import(
    start: Callable[..., Server], tmp_path: Path, notes: Path
) -> None:
    log = tmp_path / "spy"
    own = ["--no-daemon", str(notes)]
    server = start(
        *own, command=[sys.executable, "-m", "mcp_server"], PYTHONPATH=f"{HERE / 'spy'}:{ROOT}", SPY_LOG=str(log)
    )
    server.initialize()
    deadline = time.monotonic() + 30
    while "import lancedb" not in log.read_text():  # the spy sees imports, and they do come afterwards
        assert time.monotonic() < deadline, log.read_text()
        server.call(2, "status")
    assert log.read_text().splitlines()[0] == "answer"
