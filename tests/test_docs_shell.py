"""Every command in the documentation is one that exists: parsed by the real parser, run, or left out for a reason.

Commands of ours are parsed as written. Those of the README are also run, one after the other, against a data directory
of their own. Scripts exist and explain themselves. What is not ours stands in ``OUTSIDE`` with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_text import ROOT, Written, commands, program_of
from relays import Home

from mcp_server.cli import arguments

OUTSIDE = {
    "npx": "runs a package of npm; tests/mcp_server/test_node_clients.py runs the inspector in its pinned version",
    "npm": "installs what those tests need",
    "pip": "installs packages; .ci/run does it, by the README's own line",
    "pipx": "installs the program from a package index",
    "uv": "installs the program from a package index",
    "uvx": "installs the program from a package index",
    "claude": "a client's own command line",
    "code": "a client's own command line",
    "git": "fetches the checkout that this test stands in",
    "cd": "goes into that checkout",
    "command": "asks the shell where a program is",
}
INTERNAL = {"owner": "started by relays; not for people, so the parser does not know it"}
IN_A_WINDOW = "--open"
"""Left out when a command is run: there is no browser to open it in."""
FOREVER = {"serve": "speaks MCP until its client leaves", "--watch": "shows the status until Ctrl-C"}
EVERY = list(commands())


def ours() -> Iterator[Written]:
    """The commands of this program."""
    return (each for each in EVERY if program_of(each.words) == "folder-mcp")


def test_there_are_commands_to_look_at() -> None:
    assert len(EVERY) > 60
    assert len(list(ours())) > 25
    assert sum(each.block for each in EVERY) > 10


@pytest.mark.parametrize("written", [each for each in ours() if each.words[1:2] != ("owner",)], ids=str)
def test_a_command_of_ours_is_understood_as_written(written: Written) -> None:
    words = _filled([os.path.expanduser(word) for word in written.words[1:]])
    if not written.block and all(re.fullmatch("[a-z]+", word) for word in words):
        words.append("--help")  # the text speaks of the command, it is not to be typed
    try:
        arguments.parse(words)
    except SystemExit as ended:
        assert ended.code == 0, f"{written} is not understood"


def _filled(words: list[str]) -> list[str]:
    """Put something in the place of placeholders that stand for a number or a word of a list."""
    for place, word in enumerate(words):
        if word in ("N", "S"):
            words[place] = "1"
        elif word == "STATE":
            words[place] = "ready"
        elif word == "CLIENT":
            words[place] = "cursor"
        elif word == "COMMAND":
            words[place] = "status"
    return words


def _scripts() -> list[Written]:
    python = [each for each in EVERY if program_of(each.words).startswith("python") and "-m" not in each.words]
    return [each for each in python if len(each.words) > 1 and each.words[1].endswith(".py")]


@pytest.mark.parametrize("written", _scripts(), ids=str)
def test_a_script_that_is_named_exists(written: Written) -> None:
    assert (ROOT / written.words[1]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted({each.words[1] for each in _scripts()}))
def test_a_script_explains_itself_and_knows_the_flags_that_pages_name(script: str) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    for each in _scripts():
        named = {word.partition("=")[0] for word in each.words[2:] if word.startswith("-")}
        if each.words[1] == script:
            assert named - set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", done.stdout)) == set(), each


def test_what_is_not_ours_is_known_and_what_it_names_exists() -> None:
    for each in EVERY:
        program = program_of(each.words)
        if program == "folder-mcp" or each in _scripts():
            continue
        if program in ("pytest", "bash", "mcp"):
            for word in each.words[1:]:
                if "/" in word:
                    assert (ROOT / word.partition("::")[0]).exists(), each
        elif program.startswith("python"):
            assert each.words[1] == "-m" and each.words[2] in {"venv", "mcp_server", *OUTSIDE}, each
        else:
            assert program in OUTSIDE, f"{each}: say in OUTSIDE why nothing checks it"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the owner's process through /proc")
def test_the_commands_of_the_readme_do_what_they_say(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.notes / "budget.md").write_text("# Budget\n\n" + "We decided: the budget is 12.\n" * 40, encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "FOLDER_MCP_CONFIG": str(home.config),
        "FOLDER_MCP_DATA_DIR": str(home.data),
        "PYTHONPATH": str(ROOT),
    }
    ran = 0
    try:
        for written in (each for each in ours() if each.page == "README.md" and each.block):
            words = [word.replace("~", str(tmp_path), 1) if word.startswith("~/") else word for word in written.words]
            if ".venv" in words[0] or set(words) & set(FOREVER):
                continue  # the first block is what .ci/run and the quality benchmark do, with the real model
            if words[1] == "install":
                continue  # writes into clients' files: tests/mcp_server/clients
            done = subprocess.run(
                [sys.executable, "-m", "mcp_server", *(word for word in words[1:] if word != IN_A_WINDOW)],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            # The model of this home is missing on purpose, and the doctor's business is to say so.
            assert done.returncode in ((0, 1) if words[1] == "doctor" else (0,)), f"{written}: {done.stderr}"
            assert done.stdout, written
            ran += 1
    finally:
        home.close()
    assert ran >= 5
