"""Starting what a client's configuration says: servers that do not start, do not answer, or are something else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from indexer.config import load_config
from mcp_server.clients import verify
from mcp_server.clients.entry import Launch, launch_of
from mcp_server.clients.verify import Sample

SAMPLES = [Sample("/notes/a.md", "quarterly")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    tried = await verify.verify_client(Launch(str(tmp_path / "gone"), ()), SAMPLES, {})
    assert tried.verdict == "failed" and "is not there" in tried.detail and "install folder-mcp again" in tried.remedy


async def test_a_server_that_ends_is_told_with_its_last_words() -> None:
    dying = Launch(sys.executable, ("-c", "import sys; sys.exit('no module named x')"))
    tried = await verify.verify_client(dying, SAMPLES, {})
    assert tried.verdict == "failed" and not tried.good
    assert tried.detail.endswith("it said: no module named x")
    assert "run it in a terminal" in tried.remedy and "folder-mcp doctor" in tried.remedy


def test_a_clients_environment_is_short() -> None:
    given = {"HOME": "/h", "PATH": "/home/ada/bin", "PYTHONPATH": "/x", "FOLDER_MCP_DATA_DIR": "/d", "LANG": "C"}
    assert verify.client_environment(given) == {"HOME": "/h", "LANG": "C", "PATH": verify.SHORT_PATH}


def test_words_come_from_files_that_the_index_takes(tmp_path: Path) -> None:
    config = load_config(None, data_dir=tmp_path / "data", environ={"HOME": str(tmp_path)})
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "a.md").write_text("a budget of considerable size\n", encoding="utf-8")
        (folder / "b.md").write_text("kurze Überschriften\n", encoding="utf-8")
        (folder / ".env").write_text("SECRETIVENESS=1\n", encoding="utf-8")
        (folder / "short.txt").write_text("of no use 1234567\n", encoding="utf-8")
        (folder / "book.pdf").write_bytes(b"%PDF-1.4 nothingness")
    found = verify.find_samples([str(one), str(two)], config)
    words = {"a.md": "considerable", "b.md": "Überschriften"}
    assert len(found) == 3 and {each.word for each in found} <= {*words.values()}
    assert all(each.word == words[Path(each.path).name] for each in found)
    assert [Path(each.path).parent for each in found[:2]] == [one, two]
    assert verify.find_samples([str(tmp_path / "gone")], config) == []


@pytest.mark.parametrize(
    ("entry", "launch"),
    [
        ({"command": "a", "args": [1], "env": {"K": "v"}, "cwd": "/c"}, Launch("a", ("1",), (("K", "v"),), "/c")),
        ({"cmd": "a", "envs": {"K": "v"}}, Launch("a", (), (("K", "v"),))),
        ({"command": {"path": "a", "args": ["b"], "env": None}}, Launch("a", ("b",))),
        ({"url": "http://x"}, None),
        ({"command": "a", "args": 3}, None),
    ],
)  # fmt: skip
def test_every_form_of_an_entry_says_what_is_started(entry: dict[str, object], launch: Launch | None) -> None:
    assert launch_of(entry) == launch
