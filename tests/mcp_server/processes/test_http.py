"""The second bind_http: who may come in, and MCP through it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fakes_engine import FakeEngine
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from relays import ROOT, Home, wait_gone

from indexer.errors import ConfigError
from mcp_server.processes.http import bind_http, read_token, with_health


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("8765x", "not an address"),
        ("127.0.0.1:99999", "not an address"),
        ("example.org:80", "as an IP address"),
        ("/notes", "not an address"),
        ("0.0.0.0:0", "can be reached from other machines"),
        ("[::]:0", "can be reached from other machines"),
    ],
)
def test_an_address_that_is_none_or_unprotected_is_refused(where: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=error):
        bind_http(where, tmp_path, hosts=(), certificate=None, allow_remote=False)


@pytest.mark.parametrize("more", [{"allow_remote": True}, {"certificate": ("c", "k")}])
def test_another_address_needs_encryption_or_a_word(more: dict[str, Any], tmp_path: Path) -> None:
    given = {"hosts": ("search.example",), "certificate": None, "allow_remote": False, **more}
    bound, token, hosts = bind_http("0.0.0.0:0", tmp_path, **given)
    with bound:
        assert f"search.example:{bound.getsockname()[1]}" in hosts
    assert token == read_token(tmp_path / "http-token")


def test_a_taken_address_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="choose another"):
        bind_http(f"{taken.getsockname()[1]}", tmp_path, hosts=(), certificate=None, allow_remote=False)


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "data" / "http-token"
    token = read_token(file)
    assert len(token) >= 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_token(file) == token
    os.chmod(file, 0o644)
    with pytest.raises(ConfigError, match="other users can read"):
        read_token(file)


@pytest.mark.parametrize("text", ["", "short", "\xff" * 40])
def test_a_token_that_protects_nothing_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "http-token"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="delete the file"):
        read_token(file)


async def knock(path: str, engine: FakeEngine, host: bytes = b"127.0.0.1:8765") -> tuple[int, dict[str, Any], bool]:
    """Send one request; return status, document, and whether it came through."""
    through: list[bool] = []
    sent: list[dict[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        through.append(True)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Any) -> None:
        sent.append(message)

    app = with_health(inner, engine.status, ("search.example:8765", "search.example"))
    await app({"type": "http", "path": path, "headers": [(b"host", host)]}, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"]), bool(through)


async def test_health_and_readiness_need_no_token_and_all_else_is_handed_on(engine: FakeEngine) -> None:
    assert await knock("/health", engine) == (200, {"alive": True}, False)
    assert await knock("/ready", engine) == (200, {"keyword": "serving", "semantic": "serving"}, False)
    assert await knock("/mcp", engine) == (204, {}, True)


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"search.example", 200),
        (b"SEARCH.example:8765", 200),
        (b"127.0.0.1:9", 200),
        (b"10.1.2.3:8765", 200),  # a container's probe
        (b"[::1]:8765", 200),
        (b"[2001:db8::1]", 200),
        (b"evil.example:8765", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"", 421),
        (b"[]", 421),
        (b"\xff", 421),
    ],
)
async def test_a_name_that_was_made_to_point_here_learns_nothing(
    path: str, host: bytes, status: int, engine: FakeEngine
) -> None:
    assert (await knock(path, engine, host))[0] == status


async def test_readiness_asks_the_engine_once_a_second_whoever_asks_how_often(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [100.0], []
    monkeypatch.setattr("mcp_server.processes.http.time.monotonic", lambda: now[0])

    def status() -> Any:
        asked.append(now[0])
        return engine.status()

    app = with_health(lambda *_: None, status, ())  # type: ignore[arg-type,return-value]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for step in range(40):
        now[0] = 100.0 + step / 20
        await app({"type": "http", "path": "/ready", "headers": [(b"host", b"127.0.0.1")]}, None, send)
    assert asked == [100.0, 101.0]
    assert sum(message.get("status") == 200 for message in sent) == 40


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Home, str, dict[str, str]]]:
    home = Home(tmp_path)
    command = [sys.executable, "-m", "mcp_server", "serve", str(home.notes), "--http", "127.0.0.1:0", *home.flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stderr
        line = process.stderr.readline()
        assert "serving http://" in line, line + process.stderr.read()
        url = line.split("serving ")[1].split(";")[0]
        token = (home.data / "http-token").read_text(encoding="ascii").strip()
        yield home, url, {"Authorization": f"Bearer {token}"}
        process.terminate()
        assert process.wait(15) == 0
    home.close()


@pytest.mark.slow
async def test_mcp_through_the_second_door_is_the_owners(served: tuple[Home, str, dict[str, str]]) -> None:
    home, url, headers = served
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60)) as http:
        for mode in ("legacy", "auto"):
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "read", "status"}
                status = (await client.call_tool("status", {})).structured_content
                assert status["owner"]["pid"] == home.owner()
    relay = home.client().begin()
    assert relay.status()["owner"]["pid"] == home.owner()
    assert home.owners() == []  # the one that serves is the owner, no other was started


@pytest.mark.slow
def test_the_second_door_checks_host_origin_and_token(served: tuple[Home, str, dict[str, str]]) -> None:
    _, url, token = served
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def status(**headers: str) -> int:
        request = urllib.request.Request(url, body, {**sent, **headers})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    assert status() == 401
    assert status(**token, Host="evil.example") == 421
    assert status(**token, Origin="https://evil.example") == 403
    assert status(**token, Origin="null") == 403
    assert status(**token) not in (401, 403, 421)
    with urllib.request.urlopen(url.replace("/mcp", "/health"), timeout=30) as answer:
        assert json.load(answer) == {"alive": True}


@pytest.mark.slow
def test_a_second_owner_is_not_begun_for_http(served: tuple[Home, str, dict[str, str]]) -> None:
    home, _, _ = served
    done = home.command("serve", "--http", "127.0.0.1:0")
    assert done.returncode == 1
    assert f"process {home.owner()} owns" in done.stderr


@pytest.mark.slow
def test_stop_ends_a_server_of_http_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    command = [sys.executable, "-m", "mcp_server", "serve", "--http", "127.0.0.1:0", *home.flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        process.stderr.readline()
        assert home.command("stop").stdout == f"stopped process {process.pid}\n"
        wait_gone(process.pid)
