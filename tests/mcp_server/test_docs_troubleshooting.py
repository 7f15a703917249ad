"""Every command that ``docs/troubleshooting.md`` names is one that exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mcp_server import cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`folder-mcp ([^`]+)`", PAGE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_named_in_the_page_is_understood(command: str) -> None:
    try:
        cli.parse(shlex.split(command))
    except SystemExit as ended:
        assert ended.code == 0, command


def test_the_page_names_commands() -> None:
    assert len(COMMANDS) > 5
