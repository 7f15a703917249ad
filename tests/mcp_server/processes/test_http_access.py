"""``serve --http`` as a process: tokens of their own, an identity provider, sessions, revoking, and the record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from identity_provider import AUDIENCE, IdentityProvider
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from relays import ROOT, Home

pytestmark = pytest.mark.slow

ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@dataclass
class Served:
    """A running server with two folders: the notes of Ada and the salaries of Ben."""

    home: Home
    url: str
    theirs: Path

    @property
    def owner_token(self) -> str:
        return (self.home.data / "http-token").read_text(encoding="ascii").strip()

    def command(self, *words: str) -> str:
        """Run a command and return its output."""
        command = [sys.executable, "-m", "mcp_server", *self.home.flags, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, name: str, folder: Path, *more: str) -> str:
        return str(json.loads(self.command("access", "add", name, "--folder", str(folder), "--json", *more))["token"])

    def client(self, token: str, mode: str = "auto") -> AbstractAsyncContextManager[Client]:
        return connected(self.url, token, mode)

    def http(self, token: str) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {token}", **ACCEPT}
        return httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60))

    def record(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.command("log", "--json").splitlines()]


@asynccontextmanager
async def connected(url: str, token: str, mode: str) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60)) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,  # type: ignore[arg-type]
    ):
        yield client


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Served]]:
    running: list[tuple[Home, subprocess.Popen[str]]] = []

    def start(settings: str = "") -> Served:
        home = Home(tmp_path, settings)
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "salaries.md").write_text("# Salaries\n\nBen earns a signing bonus.\n", encoding="utf-8")
        words = ["serve", str(home.notes), str(theirs), "--http", "127.0.0.1:0", *home.flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "mcp_server", *words],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        running.append((home, process))
        assert process.stderr
        line = process.stderr.readline()
        assert "serving http://" in line, line + process.stderr.read()
        return Served(home, line.split("serving ")[1].split(";")[0], theirs)

    yield start
    for home, process in running:
        process.terminate()
        process.wait(15)
        assert process.stderr
        process.stderr.close()
        home.close()


async def hits(client: Client, query: str) -> list[str]:
    """Search until both folders have been read; return the hits."""
    with anyio.fail_after(90):
        while True:
            status = (await client.call_tool("status", {})).structured_content
            assert status is not None
            counts = [folder["files"] for folder in status["folders"]]
            if counts and all(files["indexed"] and not files["pending"] for files in counts):
                break
            await anyio.sleep(0.1)
    found = (await client.call_tool("search", {"query": query})).structured_content
    return [] if found is None else [hit["path"] for hit in found["hits"]]


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "7"},
    },
}


async def open_session(http: httpx2.AsyncClient, url: str) -> dict[str, str]:
    """Open a session of the era that has them; return its header."""
    answer = await http.post(url, json=INITIALIZE)
    assert answer.status_code == 200, answer.text
    session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
    await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
    return session


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


async def test_each_token_sees_its_folders_until_it_is_removed(serve: Callable[[str], Served]) -> None:
    served = serve("")
    ada, ben = served.add("ada", served.home.notes), served.add("ben", served.theirs)
    mine, other = str(served.home.notes / "keys.md"), str(served.theirs / "salaries.md")
    for mode in ("legacy", "auto"):
        async with served.client(served.owner_token, mode) as owner:
            assert sorted(await hits(owner, "signing")) == sorted([mine, other])
        async with served.client(ada, mode) as client:
            assert await hits(client, "signing") == [mine]
            refused = await client.call_tool("read", {"path": other})
            assert refused.is_error and "Ben earns" not in str(refused)
            status = (await client.call_tool("status", {"verbose": True})).structured_content
            assert "theirs" not in json.dumps(status)
        async with served.client(ben, mode) as client:
            assert await hits(client, "signing") == [other]
    served.command("access", "remove", "ben")
    async with served.http(ben) as http:
        answer = await http.post(served.url, json=INITIALIZE)
        assert (answer.status_code, answer.json()) == (401, {"error": "missing or wrong token"})
    lines = served.record()
    refusals = [(one["user"], one["tool"], one["asked"]) for one in lines if one["outcome"] == "refused"]
    assert refusals == [("ada", "read", [other])] * 2
    assert {one["user"] for one in lines if other in one.get("files", ())} == {"", "ben"}
    assert {one["user"] for one in lines if mine in one.get("files", ())} == {"", "ada"}
    assert all(one["client"] for one in lines if one["tool"] == "search")


async def test_a_session_belongs_to_its_token_and_ends_with_it(serve: Callable[[str], Served]) -> None:
    served = serve("")
    ada, ben = served.add("ada", served.home.notes), served.add("ben", served.theirs)
    async with served.http(ada) as http, served.http(ben) as stranger, served.http("x" * 48) as nobody:
        session = await open_session(http, served.url)
        assert (await http.post(served.url, json=call(2, "status"), headers=session)).status_code == 200
        for one in (stranger, nobody):
            assert (await one.post(served.url, json=call(3, "status"), headers=session)).status_code in (401, 404)
            assert (await one.delete(served.url, headers=session)).status_code in (401, 404)
        assert (await http.post(served.url, json=call(4, "status"), headers=session)).status_code == 200
        async with http.stream("GET", served.url, headers=session) as events:
            assert events.status_code == 200
            served.command("access", "remove", "ada")
            assert (await http.post(served.url, json=call(5, "status"), headers=session)).status_code == 401
            with anyio.fail_after(60):  # the stream ends by itself: with its next event, or sign of life
                async for _ in events.aiter_bytes():
                    pass
        again = served.add("ada", served.home.notes)
        async with served.http(again) as anew:
            assert (await anew.post(served.url, json=call(6, "status"), headers=session)).status_code == 404


async def test_a_token_narrowed_in_the_file_sees_less_at_once_and_a_broken_file_lets_nobody_in(
    serve: Callable[[str], Served],
) -> None:
    served = serve("")
    file = served.home.data / "access.toml"
    token = served.add("ada", served.home.notes, "--folder", str(served.theirs))
    async with served.client(token, "auto") as client:
        assert len(await hits(client, "signing")) == 2
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(f', "{served.theirs}"', ""), encoding="utf-8")
        assert await hits(client, "signing") == [str(served.home.notes / "keys.md")]
    file.write_text(text + "\n[users.ben\n", encoding="utf-8")
    async with served.http(token) as http, served.http(served.owner_token) as owner:
        assert (await http.post(served.url, json=INITIALIZE)).status_code == 401
        assert (await owner.post(served.url, json=INITIALIZE)).status_code == 200


async def test_users_of_an_identity_provider_see_the_folders_of_their_groups(serve: Callable[[str], Served]) -> None:
    with IdentityProvider() as provider:
        served = serve(f'[oidc]\nissuer = "{provider.issuer}"\naudience = "{AUDIENCE}"\nsubject_claim = "email"\n')
        groups = f"[groups.team]\nfolders = ['{served.home.notes}']\n[groups.pay]\nfolders = ['{served.theirs}']\n"
        (served.home.data / "access.toml").write_text(groups, encoding="utf-8")
        mine, other = str(served.home.notes / "keys.md"), str(served.theirs / "salaries.md")
        async with served.client(provider.token(email="ada@x.example"), "auto") as client:
            assert await hits(client, "signing") == [mine]
        async with served.client(provider.token(email="ben@x.example", groups=["pay", "team"]), "auto") as client:
            assert sorted(await hits(client, "signing")) == sorted([mine, other])
        async with served.http(provider.token(groups=["others"])) as http:
            refused = await http.post(served.url, json=INITIALIZE)
        assert refused.status_code == 401
        assert "/.well-known/oauth-protected-resource/mcp" in refused.headers["www-authenticate"]
        async with httpx2.AsyncClient() as http:
            address = served.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
            assert (await http.get(address)).json()["authorization_servers"] == [provider.issuer]
        users = {one["user"] for one in served.record() if one["tool"] == "search"}
        assert users == {"ada@x.example", "ben@x.example"}


async def test_a_session_goes_on_with_the_next_token_of_the_same_user(serve: Callable[[str], Served]) -> None:
    with IdentityProvider() as provider:
        served = serve(f'[oidc]\nissuer = "{provider.issuer}"\naudience = "{AUDIENCE}"\n')
        groups = f"[groups.team]\nfolders = ['{served.home.notes}']\n"
        (served.home.data / "access.toml").write_text(groups, encoding="utf-8")
        async with served.http(provider.token()) as http:
            session = await open_session(http, served.url)
        async with served.http(provider.token(jti="2")) as http:
            assert (await http.post(served.url, json=call(2, "status"), headers=session)).status_code == 200
        for other in ({"sub": "u-2"}, {"azp": "another program"}):
            async with served.http(provider.token(**other)) as http:
                assert (await http.post(served.url, json=call(3, "status"), headers=session)).status_code == 404
