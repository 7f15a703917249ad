"""The messages that ``docs/troubleshooting.md`` explains are those that the program gives."""

from __future__ import annotations

import re

import pytest
from docs_text import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
OTHERS = {
    "Connection closed": "a client's",
    "failed": "a client's",
    "command not found: folder-mcp": "the shell's, or a client's",
    "npx canceled due to missing packages": "npm's",
}
SYMPTOMS = [row.split(" | ")[0] for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE)]
QUOTED = sorted({words for symptom in SYMPTOMS for words in re.findall(r'"([^"]+)"', symptom)} - set(OTHERS))


def said() -> str:
    """Everything the program can say: its source, with texts that go over several lines joined."""
    files = [*(ROOT / "mcp_server").rglob("*.py"), *(ROOT / "indexer").rglob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"""["']\s*\n\s*f?["']""", "", source)


SAID = said()


def test_there_are_symptoms_to_look_at() -> None:
    assert len(SYMPTOMS) > 20
    assert len(QUOTED) >= 6


@pytest.mark.parametrize("words", QUOTED)
def test_a_message_that_is_explained_is_one_the_program_gives(words: str) -> None:
    assert words in SAID, "the program says something else by now"


def test_every_symptom_has_a_cause_and_a_remedy() -> None:
    for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE):
        assert len([cell for cell in row.split(" | ") if cell.strip()]) == 3, row
