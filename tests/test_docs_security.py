"""The table of attacks names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = [line for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
REFERENCE = re.compile(r"\b((?:tests|benchmarks)/[\w/]+\.py)((?:(?:, )?::\w+)*)")


def references() -> list[tuple[str, str]]:
    """Files, and names in them (empty for the file as a whole), that the last column names."""
    found = []
    for row in ROWS:
        for file, names in REFERENCE.findall(row):
            found += [(file, name) for name in re.findall(r"::(\w+)", names) or [""]]
    return sorted(set(found))


@pytest.mark.parametrize(("file", "name"), references())
def test_a_test_of_the_table_of_attacks_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not name or re.search(rf"^(async )?def {name}\(", text, re.M), f"{file} has no {name}"


def test_every_attack_names_its_test_or_says_that_it_is_open() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").partition("## What was tried")[2]
    attacks = [row for row in text.splitlines() if row.startswith("| ") and not row.startswith("| attack |")]
    assert len(attacks) > 100
    assert [row for row in attacks if not REFERENCE.search(row) and "open" not in row.lower()] == []
