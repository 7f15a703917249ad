"""Real processes whose client sends whatever it likes, over stdio and HTTP: each id is answered, and it can go on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from odd_messages import HANDSHAKE, MODERN, STRAY, expects_no_result, requests
from relays import LIMIT, ROOT, Home

from mcp_server.protocol.lines import MAX_LINE

pytestmark = pytest.mark.slow

SERVER = [str(Path(sys.executable).with_name("mcp")), "run", str(ROOT / "mcp_server" / "server.py")]
NUMBERS = itertools.count()
few = settings(
    max_examples=max(4, settings().max_examples // 8),
    phases=[Phase.explicit, Phase.generate],  # the process lives through all examples: nothing to shrink with
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class RawClient:
    """A process on pipes, and how often it answered each id."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        self.answered: Counter[str] = Counter()
        self.answers: dict[Any, Any] = {}
        self._news: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stdout:
                self._news.put(json.loads(line))
        self._news.put(None)

    def send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def wait(self, identity: str) -> Any:
        until = time.monotonic() + LIMIT
        while identity not in self.answers:
            try:
                message = self._news.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{identity} was not answered") from None
            assert message is not None, "the process ended"
            if "method" not in message and isinstance(message["id"], str):
                self.answered[message["id"]] += 1
                self.answers[message["id"]] = message
        return self.answers[identity]

    def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        identity = f"ours {next(NUMBERS)}"
        request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params or {}}
        self.send(json.dumps(request).encode())
        return self.wait(identity)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            with contextlib.suppress(OSError):
                stream.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("odd"))
    yield home
    home.close()


@pytest.fixture(scope="module", params=["relay", "relay-modern", "no-daemon", "mcp-run"])
def client(request: pytest.FixtureRequest, home: Home) -> Iterator[tuple[RawClient, bool]]:
    """A client that has sent nothing yet: the relay's owner is still to be started."""
    modern = request.param == "relay-modern"
    if request.param == "mcp-run":
        one = RawClient(SERVER, FOLDER_MCP_DATA_DIR=str(home.data), FOLDER_MCP_CONFIG=str(home.config))
    else:
        own = ["--no-daemon"] if request.param == "no-daemon" else []
        one = RawClient([sys.executable, "-m", "mcp_server", "serve", *own, *home.flags, str(home.notes)])
    yield one, modern
    one.close()


@few
@given(data=st.data())
def test_each_id_is_answered_once_over_stdio(client: tuple[RawClient, bool], data: st.DataObject) -> None:
    one, modern = client
    messages = data.draw(st.lists(requests(modern=modern), min_size=1, max_size=40))
    owed = []
    for message in messages:
        if message.get("method") in ("initialize", "subscriptions/listen"):
            continue  # the connection is opened by the ping below, and once
        for line in data.draw(st.lists(STRAY, max_size=1)):
            one.send(line)
        identity = f"id {next(NUMBERS)}"
        one.send(json.dumps({**message, "id": identity}).encode())
        if not expects_no_result(message):
            owed.append(identity)
    answer = one.ask("tools/list", {"_meta": MODERN}) if modern else one.ask("ping")
    assert "result" in answer or modern, answer
    for identity in owed:
        one.wait(identity)
        assert one.answered[identity] == 1


def test_the_client_can_still_begin_and_search(client: tuple[RawClient, bool]) -> None:
    one, modern = client
    meta = {"_meta": MODERN} if modern else {}
    if not modern:
        one.ask("initialize", HANDSHAKE)
        one.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    answer = one.ask("tools/call", {"name": "status", "arguments": {}, **meta})
    if not modern or "error" not in answer:
        assert answer["result"]["structuredContent"]["services"], answer


def test_an_oversized_line_is_answered_and_passed_over(client: tuple[RawClient, bool]) -> None:
    one, _ = client
    identity = f"big {next(NUMBERS)}"
    head = json.dumps({"jsonrpc": "2.0", "id": identity, "method": "ping", "params": {"a": ""}})[:-3].encode()
    one.send(head + b"a" * (MAX_LINE + 1) + b'"}}')
    assert "longer than 64 MiB" in one.wait(identity)["error"]["message"]
    assert one.ask("ping")["id"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    home = Home(tmp_path_factory.mktemp("http"))
    command = [sys.executable, "-m", "mcp_server", "serve", str(home.notes), "--http", "127.0.0.1:0", *home.flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stderr
        line = process.stderr.readline()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        url = line.split("serving ")[1].split(";")[0]
        token = (home.data / "http-token").read_text(encoding="ascii").strip()
        yield url, {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        process.terminate()
        assert process.wait(15) == 0
    home.close()


def posted(url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], list[Any]]:
    """Send one body; return the status, the headers and the answers."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            status, head, content = response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, head, content = error.code, dict(error.headers), error.read()
    kind = {name.lower(): value for name, value in head.items()}
    if "event-stream" in kind.get("content-type", ""):
        texts = [line[6:] for line in content.decode().splitlines() if line.startswith("data: {")]
    else:
        texts = [content.decode()] if content else []
    found = [json.loads(text) for text in texts]
    flat = [each for one in found for each in (one if isinstance(one, list) else [one])]
    return status, kind, [each for each in flat if "method" not in each]


@few
@given(data=st.data(), modern=st.booleans())
def test_each_id_is_answered_once_over_http(
    served: tuple[str, dict[str, str]], data: st.DataObject, modern: bool
) -> None:
    url, token = served
    headers = {**token, "Mcp-Protocol-Version": "2026-07-28" if modern else "2025-11-25"}
    begin = json.dumps({"jsonrpc": "2.0", "id": "begin", "method": "initialize", "params": HANDSHAKE}).encode()
    if not modern:
        headers["Mcp-Session-Id"] = posted(url, token, begin)[1]["mcp-session-id"]
    for message in data.draw(st.lists(requests(modern=modern), min_size=1, max_size=20)):
        posted(url, headers, data.draw(STRAY))
        identity = f"id {next(NUMBERS)}"
        _, _, answers = posted(url, headers, json.dumps({**message, "id": identity}).encode())
        if not expects_no_result(message):
            assert [each["id"] for each in answers] == [identity]
    if not modern:
        ping = json.dumps({"jsonrpc": "2.0", "id": "last", "method": "ping"}).encode()
        assert posted(url, headers, ping)[2] == [{"jsonrpc": "2.0", "id": "last", "result": {}}]
