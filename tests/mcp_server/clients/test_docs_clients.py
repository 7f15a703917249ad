"""``docs/clients.md`` shows what is written, and names every client, file and variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from client_diffs import diff

from mcp_server.cli import arguments
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import CLIENTS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "clients.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))


def test_every_client_has_a_section() -> None:
    assert list(SECTIONS) == [client.title for client in CLIENTS.values()]


@pytest.mark.parametrize("key", CLIENTS)
def test_the_difference_is_the_real_one(key: str) -> None:
    section = SECTIONS[CLIENTS[key].title]
    assert f"```diff\n{diff(key)}\n```" in section, "run python tests/support/client_diffs.py"
    assert f"`folder-mcp install {key} ~/notes`" in section


@pytest.mark.parametrize("key", CLIENTS)
def test_the_table_has_the_real_file(key: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {CLIENTS[key].title} |"))
    file = CLIENTS[key].file(Machine("linux", Path("/nowhere"), {}, lambda _: None))
    assert f"`~/{file.relative_to('/nowhere').as_posix()}`" in row


def test_the_commands_shown_are_understood() -> None:
    block = re.search(r"```sh\n(.*?)```", PAGE, re.S)
    assert block
    for line in block[1].splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "folder-mcp"
        assert arguments.parse(words[1:]).command == words[1]
