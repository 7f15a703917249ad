"""``folder-mcp ui``: the owner's page from the command line, from one owner to the next, and without one."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from relays import ROOT, Home, wait_gone

from mcp_server.cli.serve_web import redirect_file
from mcp_server.processes.connections import Connections


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


def answered(url: str, path: str, body: Any = None) -> dict[str, Any]:
    origin, _, token = url.partition("/#")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(origin + path, data, {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.mark.slow
def test_the_page_is_the_owners_and_outlives_it(home: Home) -> None:
    said = home.command("ui")
    assert said.returncode == 0, said.stderr
    url = said.stdout.strip()
    assert url.startswith("http://127.0.0.1:") and url.count("#") == 1
    assert home.owners() == [home.owner()]
    assert answered(url, "/api/files", {}) == {"total": 0, "next": None, "files": [], "reasons": []}
    note = Path(home.owner_files.directory) / "page.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    first = home.owner()
    assert home.command("stop").returncode == 0
    wait_gone(first)
    with pytest.raises(urllib.error.URLError):
        answered(url, "/api/files", {})
    assert home.client().begin().status()["owner"]["pid"] != first  # any client starts the next owner,
    assert answered(url, "/api/files", {})["total"] == 0  # which is behind the same address
    assert home.command("ui").stdout.strip() == url


@pytest.mark.slow
def test_without_an_owner_the_command_serves_the_page_itself(home: Home) -> None:
    command = [sys.executable, "-m", "mcp_server", "ui", "--no-daemon", *home.flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout and process.stderr
            assert "Ctrl-C" in process.stderr.readline()
            url = process.stdout.readline().strip()
            assert answered(url, "/api/files", {})["total"] == 0
            assert home.owners() == []
        finally:
            process.terminate()


def test_an_open_page_is_a_reason_to_stay_and_no_client_of_the_tools() -> None:
    clients = Connections("")
    with clients.registered({"kind": "page"}):
        assert clients.present and clients.status() == () and not clients.had_client
    assert not clients.present


def test_no_command_line_shows_the_token(tmp_path: Path) -> None:
    """Other users of the machine see the command line of the browser that is started."""
    call: Any = SimpleNamespace(config=SimpleNamespace(data_dir=tmp_path / "data"))
    url = "http://127.0.0.1:1/#secret&<"
    page = redirect_file(call, url)
    try:
        assert "secret" not in page.as_uri()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert "url=http://127.0.0.1:1/#secret&amp;&lt;" in page.read_text(encoding="utf-8")
    finally:
        page.unlink()
        page.parent.rmdir()
