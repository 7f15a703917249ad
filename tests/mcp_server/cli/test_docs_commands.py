"""``docs/commands.md`` names every command, action and flag, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_server.cli import arguments

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## folder-mcp ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")


def words_of(heading: str) -> list[str]:
    """The words to type: ``models pull`` of ``models pull NAME``, ``folders list`` of ``folders [list]``."""
    return [word for word in heading.replace("[list]", "list").split() if word.islower()]


TYPED = {" ".join(words_of(heading)): text for heading, text in SECTIONS.items()}


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        arguments.parse([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def explained(text: str) -> set[str]:
    """Flags in the first column of a section's table."""
    return {flag for row in re.findall(r"^\| (`-[^|]*) \|", text, re.M) for flag in FLAG.findall(row)}


def offered(help_text: str) -> set[str]:
    """Flags that a command's help lists."""
    rows = re.findall(r"^  (-[^ ].*?)(?:  |$)", help_text, re.M)
    return {flag for row in rows for flag in FLAG.findall(row)}


COMMON = explained(PAGE.split("\n## ")[0])


def test_every_command_and_action_has_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    actions = set()
    for command in arguments.COMMANDS:
        usage = re.search(r"^  (\w+(?: \| \w+)+)\n", help_of([command], capsys), re.M)
        actions |= {f"{command} {action}" for action in usage[1].split(" | ")} if usage else {command}
    assert set(TYPED) == actions


@pytest.mark.parametrize("command", TYPED)
def test_every_flag_is_explained_and_none_that_does_not_exist(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = offered(help_of(command.split(), capsys))
    assert there - explained(TYPED[command]) <= COMMON, "explain it in docs/commands.md"
    assert explained(TYPED[command]) <= there


def test_the_flags_of_every_command_are_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    shared = set.intersection(*(offered(help_of([command], capsys)) for command in arguments.COMMANDS))
    assert shared == COMMON == {"--config", "--data-dir", "--no-daemon", "-v", "--verbose", "-h", "--help"}


def test_states_are_the_real_ones() -> None:
    row = next(line for line in TYPED["status"].splitlines() if "`--wait STATE`" in line)
    told = set(re.findall(r"`(\w+)`", row))
    for state in told:
        assert arguments.parse(["status", "--wait", state]).wait == state
    assert told == {*arguments.SLOT_STATES, "keyword", "semantic", "indexed"}
