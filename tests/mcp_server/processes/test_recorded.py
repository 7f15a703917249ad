"""The record of a running program: every way in writes it, and a kill costs nothing that was answered."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from relays import Home, wait_gone

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path)
    yield one
    one.close()


def recorded(home: Home) -> list[dict[str, Any]]:
    done = home.command("log", "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask_page(address: str, api: str, **question: Any) -> dict[str, Any]:
    url, _, token = address.partition("#")
    request = urllib.request.Request(
        url.rstrip("/") + api,
        json.dumps(question).encode(),
        {"authorization": f"Bearer {token.removeprefix('token=')}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def test_client_command_and_page_are_recorded_and_a_kill_costs_nothing_that_was_answered(home: Home) -> None:
    keys = str(home.notes / "keys.md")
    client = home.client(str(home.notes)).begin()
    client.finds("signing key")
    client.tool("read", path=keys)
    client.tool("read", path=str(home.base / "elsewhere.md"))
    assert home.command("search", "signing key").returncode == 0
    address = home.command("ui").stdout.strip()
    assert ask_page(address, "/api/search", query="signing key")["hits"]
    assert ask_page(address, "/api/read", path=keys)["text"]
    os.kill(home.owner(), signal.SIGKILL)
    lines = recorded(home)
    seen = Counter(
        (line["client"], line["tool"], line["outcome"]) for line in lines if line.get("files") or line.get("asked")
    )
    seen[("test", "search", "ok")] = min(seen[("test", "search", "ok")], 1)
    assert seen == {
        ("test", "search", "ok"): 1,
        ("test", "read", "ok"): 1,
        ("test", "read", "refused"): 1,
        ("command", "search", "ok"): 1,
        ("page", "search", "ok"): 1,
        ("page", "read", "ok"): 1,
    }
    assert {file for line in lines for file in line.get("files", ())} == {keys}
    assert "signing" not in json.dumps(lines)


def test_answers_between_kills_are_all_recorded(home: Home) -> None:
    client = home.client(str(home.notes), modern=True).begin()
    client.finds("signing key")
    before, answered = len(recorded(home)), 0
    for _ in range(2):
        for _ in range(3):
            assert "result" in client.tool("read", path=str(home.notes / "keys.md"))
            answered += 1
        owner = home.owner()
        os.kill(owner, signal.SIGKILL)
        wait_gone(owner)
    lines = recorded(home)[before:]
    assert sum(line["tool"] == "read" for line in lines) >= answered
    assert {(line["client"], line["version"]) for line in lines} == {("test", "1")}


def test_a_process_that_serves_its_client_alone_records_too(home: Home) -> None:
    client = home.client(str(home.notes), words=["--no-daemon"]).begin()
    client.finds("signing key")
    assert {line["client"] for line in recorded(home)} == {"test"}
