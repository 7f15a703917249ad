"""Clients that are neither ours nor Python: the inspector's command line, both TypeScript SDKs; through the relay."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import node_packages
import pytest
from relays import ROOT, Home

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A folder that an owner has indexed already."""
    node_packages.node()
    made = Home(tmp_path_factory.mktemp("home"))
    first = made.client(str(made.notes)).begin()
    assert first.finds("signing")
    yield made
    made.close()


def served(home: Home) -> list[str]:
    return ["-m", "mcp_server", "serve", *home.flags, str(home.notes)]


def inspect(home: Home, era: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Ask one thing by the inspector's command line."""
    server = {"command": sys.executable, "args": served(home), "cwd": str(ROOT), "protocolEra": era}
    file = home.base / "inspector.json"
    file.write_text(json.dumps({"mcpServers": {"folders": server}}), encoding="utf-8")
    program = node_packages.program("@modelcontextprotocol/inspector")
    ask = ["--cli", "--config", str(file), "--server", "folders", "--format", "json", *words]
    return node_packages.run([*program, *ask], cwd=ROOT)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["result"]
    return found


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_searches_and_reads(home: Home, era: str) -> None:
    listed = result(inspect(home, era, "--method", "tools/list", "--strict"))  # no schema another client cannot read
    assert [tool["name"] for tool in listed["tools"]] == ["search", "read", "status"]
    search = ["--method", "tools/call", "--tool-name", "search"]
    hits = result(inspect(home, era, *search, "--tool-arg", "query=signing key"))["structuredContent"]["hits"]
    assert [hit["path"] for hit in hits] == [str(home.notes / "keys.md")]
    read = result(inspect(home, era, "--method", "resources/read", "--uri", "folder-mcp://status"))
    assert json.loads(read["contents"][0]["text"])["folders"][0]["path"] == str(home.notes)


def test_the_inspector_shows_what_was_wrong_with_a_call(home: Home) -> None:
    wrong = ["--method", "tools/call", "--tool-name", "search", "--tool-arg", "qurey=signing key"]
    done = inspect(home, "modern", *wrong)
    assert done.returncode == 5
    assert "did you mean 'query'" in done.stdout


@pytest.mark.parametrize("how", ["sdk", "legacy", "auto"])
def test_a_typescript_client_searches_and_is_told_of_changes(home: Home, how: str) -> None:
    node_packages.package("@modelcontextprotocol/sdk")
    node_packages.package("@modelcontextprotocol/client")
    words = [how, "signing key", str(home.notes / f"lighthouse-{how}.md"), sys.executable, *served(home)]
    done = node_packages.run([node_packages.node(), str(node_packages.ROOM / "client.mjs"), *words], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    saw = json.loads(done.stdout)
    assert saw["tools"] == ["search", "read", "status"]
    assert saw["paths"] == [str(home.notes / "keys.md")]
    assert saw["progress"][:1] in ([], ["searching"]), "one that comes just before the answer may be lost"
    assert "did you mean 'query'" in saw["wrong"]
    assert saw["changed"] == "folder-mcp://status"
    assert saw["folders"] == [str(home.notes)]
