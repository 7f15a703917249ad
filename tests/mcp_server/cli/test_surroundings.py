"""Commands in surroundings that are not as usual: no working directory, no stdout, a folder as an address."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relays import ROOT, Home

from indexer.config import load_config
from indexer.errors import ConfigError, FolderError
from indexer.folders.registry import resolved
from mcp_server.cli import serve_stdio
from mcp_server.cli.arguments import parse
from mcp_server.cli.call import Call
from mcp_server.processes.open_engine import open_real
from mcp_server.processes.owner_lock import locate
from mcp_server.protocol.wire import Wire


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[None]:
    """The working directory does not exist any more."""
    before = os.getcwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    yield
    os.chdir(before)


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory cannot be removed")
def test_nothing_asks_for_a_working_directory_that_is_gone_but_a_relative_path(gone: None, tmp_path: Path) -> None:
    config = load_config(None, data_dir=tmp_path / "data", environ={})
    assert config.data_dir == tmp_path / "data"
    assert locate(None, str(tmp_path / "data"), {}).data_dir == str(tmp_path / "data")
    with pytest.raises(ConfigError, match="data: the working directory does not exist any more"):
        load_config(None, data_dir=Path("data"), environ={})
    assert resolved(str(tmp_path)) == str(tmp_path)
    with pytest.raises(FolderError, match="notes: the working directory does not exist any more"):
        resolved("notes")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///notes", "/notes"),
        ("file://localhost/notes", "/notes"),
        ("file:/notes", "/notes"),
        ("file:///my%20notes/%C3%BC", "/my notes/ü"),
        ("file:///a?b#c", "/a?b#c"),
    ],
)
def test_a_folder_may_be_named_by_its_address(address: str, path: str) -> None:
    assert resolved(address) == path


@pytest.mark.parametrize("address", ["file://elsewhere/notes", "file://../notes", "file:", "file:///a%00b"])
def test_an_address_that_names_no_local_folder_is_refused_as_it_was_given(address: str) -> None:
    with pytest.raises(FolderError) as caught:
        resolved(address)
    assert address in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a working directory cannot be removed")
def test_the_program_works_where_the_working_directory_is_gone(home: Home, gone: None) -> None:
    client = home.client(home.notes.as_uri(), root="/proc/self/cwd").begin()
    assert client.finds("signing") == [str(home.notes / "keys.md")]
    search = [sys.executable, "-m", "mcp_server", "search", "signing", "--mode", "keyword", *home.flags]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(search, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "keys.md" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes descriptors")
def test_commands_without_stdout_end_as_with_it(home: Home) -> None:
    home.client(str(home.notes)).begin().finds("signing")
    for words, code in (
        (["search", "signing", "--mode", "keyword"], 0),
        (["status"], 0),
        (["folders"], 0),
        (["search", ""], 1),
        (["serve"], 1),
    ):
        command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "mcp_server", *words, *home.flags]
        done = subprocess.run(
            command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == code, (words, done.stderr)
        assert "Error" not in done.stderr
        assert ("stdout is closed" in done.stderr) == (words == ["serve"])


@pytest.mark.parametrize("read_only", [False, True])
def test_a_server_in_place_of_a_silent_owner_opens_its_index_at_once(
    read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others open it after their first answer; here that answer waits for the index."""
    told: list[bool] = []
    monkeypatch.setattr(serve_stdio, "serve", lambda _server, _wire, answered: told.append(answered.is_set()) or 0)
    monkeypatch.setattr(serve_stdio, "leave", lambda _: None)
    args = parse(["serve", "--data-dir", str(tmp_path), *(["--read-only", "--because=it is silent"] * read_only)])
    call = Call(args, {}, open_real)
    serve_stdio.serve_stdio(call, call.config, Wire(0, 1, 0))
    assert told == [read_only]
