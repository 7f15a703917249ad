"""``folder-mcp install`` and ``uninstall`` as people type them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from client_files import FILES
from fakes_engine import open_fake
from relays import Home

from mcp_server.cli import main
from mcp_server.clients.registry import CLIENTS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    found = tmp_path / "home"
    found.mkdir()
    return found


@pytest.fixture
def environ(home: Path, tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(home), "USERPROFILE": str(home), "FOLDER_MCP_DATA_DIR": str(tmp_path / "data"), "PATH": ""}


def settings(home: Path, key: str) -> Path:
    """A file of a client that is here."""
    file = CLIENTS[key].file(cli_machine(home))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(FILES[key]["usual"])
    return file


def cli_machine(home: Path) -> Any:
    from mcp_server.clients.machine import this_machine

    return this_machine({"HOME": str(home), "USERPROFILE": str(home), "PATH": ""})


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {each["client"]: each for each in json.loads(capsys.readouterr().out)["clients"]}


def test_without_a_client_they_are_listed(
    home: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings(home, "zed")
    assert main.main(["install"], environ, open_fake) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["zed"].split()[1] == "found" and "not found" in lines["codex"]
    assert main.main(["install", "--json"], environ, open_fake) == 0
    assert set(document(capsys)) == set(CLIENTS)


def test_all_that_are_here_get_it_and_the_others_are_named(
    home: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {key: settings(home, key) for key in ("zed", "codex", "goose", "claude-code")}
    before = {key: file.read_bytes() for key, file in files.items()}
    assert main.main(["install", "--all", str(notes), "--no-check"], environ, open_fake) == 0
    told = capsys.readouterr().out
    assert "Not found on this machine: Claude Desktop, Cursor, VS Code" in told
    for key, file in files.items():
        assert f"{CLIENTS[key].title}: added 'folder-mcp', {file}" in told
        text = file.read_text(encoding="utf-8")
        assert str(notes) in text and str(environ["FOLDER_MCP_DATA_DIR"]) in text
    assert main.main(["install", "--all", str(notes), "--no-check", "--json"], environ, open_fake) == 0
    assert {each["action"] for each in document(capsys).values()} == {"unchanged", "none"}
    assert main.main(["uninstall", "--all"], environ, open_fake) == 0
    assert {key: file.read_bytes() for key, file in files.items()} == before


def test_one_damaged_file_does_not_keep_the_others_from_it(
    home: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings(home, "zed").write_text("{ oh", encoding="utf-8")
    cursor = settings(home, "cursor")
    assert main.main(["install", "--all", "--no-check", "--json"], environ, open_fake) == 1
    told = document(capsys)
    assert told["zed"]["action"] == "failed" and "line 1, column 3" in told["zed"]["error"]
    assert told["cursor"]["action"] == "added" and b"folder-mcp" in cursor.read_bytes()


def test_print_shows_and_writes_nothing(
    home: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    zed = settings(home, "zed")
    zed.write_text("{ damaged", encoding="utf-8")
    assert main.main(["install", "zed", str(notes), "--print"], environ, open_fake) == 0
    heading, body = capsys.readouterr().out.split("\n", 1)
    assert heading == f"# Zed: {zed}"
    server = json.loads(body)["context_servers"]["folder-mcp"]
    assert os.path.isabs(server["command"]) and server["args"][-2:] == ["serve", str(notes)]
    assert zed.read_text(encoding="utf-8") == "{ damaged"


def test_a_limit_is_passed_on_and_may_be_a_part_of_an_indexed_folder(
    home: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    part = notes / "deep"
    part.mkdir()
    assert main.main(["folders", "add", str(notes)], environ, open_fake) == 0
    capsys.readouterr()
    assert main.main(["install", "cursor", str(part), "--only", "--print", "--json"], environ, open_fake) == 0
    assert document(capsys)["cursor"]["entry"]["args"][-3:] == ["serve", "--only", str(part)]
    assert main.main(["install", "cursor", str(part), "--print"], environ, open_fake) == 2
    assert "is inside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["install", "cursor", "--only"], 2, "--only needs the folders"),
        (["install", "curser"], 1, "did you mean 'cursor'"),
        (["install", "cursor", "no-such-folder"], 2, "no-such-folder"),
        (["install", "cursor", "--name", "a b", "--no-check"], 1, "--name"),
        (["install", "--all", "--file", "x"], 1, "name it instead of --all"),
        (["uninstall"], 2, "which client?"),
    ],
)
def test_wrong_usage_is_explained(
    words: list[str], code: int, told: str, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words, environ, open_fake) == code
    assert told in capsys.readouterr().err


def test_another_file_of_a_client_can_be_named(tmp_path: Path, environ: dict[str, str]) -> None:
    file = tmp_path / "project" / ".vscode" / "mcp.json"
    assert main.main(["install", "vscode", "--file", str(file), "--no-check"], environ, open_fake) == 0
    assert json.loads(file.read_bytes())["servers"]["folder-mcp"]["type"] == "stdio"


slow = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture
def relayed(tmp_path: Path, home: Path) -> Any:
    made = Home(tmp_path / "real")
    environ = {"HOME": str(home), "FOLDER_MCP_CONFIG": str(made.config), "FOLDER_MCP_DATA_DIR": str(made.data)}
    yield made, {**environ, "PATH": ""}
    made.close()


@slow
@pytest.mark.slow
def test_the_entry_is_tried_as_the_client_would_and_a_hit_of_the_folder_comes_back(
    relayed: tuple[Home, dict[str, str]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, environ = relayed
    assert main.main(["install", "claude-code", str(made.notes), "--json"], environ, open_fake) == 0
    check = document(capsys)["claude-code"]["check"]
    assert (check["verdict"], check["path"], check["query"]) == ("hit", str(made.notes / "keys.md"), "signing")
    assert check["locator"].startswith("lines ")


@slow
@pytest.mark.slow
def test_what_is_wrong_with_an_entry_is_told_with_a_remedy(
    relayed: tuple[Home, dict[str, str]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, environ = relayed
    empty = made.base / "empty"
    empty.mkdir()
    assert main.main(["install", "cursor", str(empty), "--json"], environ, open_fake) == 1
    check = document(capsys)["cursor"]["check"]
    assert check["verdict"] == "nothing to search" and "folders add" in check["remedy"]
