"""Every setting that a page names exists, with a value that the program takes; ``tests/indexer/test_config.py`` has
the other direction: every key is in ``config.example.toml`` and in ``docs/configuration.md``, with its default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from docs_text import FENCE, INLINE, PAGES, name_of, without_blocks

from indexer.config import ENVIRONMENT, TABLES, FolderSettings, load_config

KEYS = {each.name: table for table, kind in TABLES.items() for each in fields(kind)}
FOLDER_KEYS = {each.name for each in fields(FolderSettings)}
OTHERS = {
    "PYTHONPATH": "Python's own",
    "PYTHONHOME": "Python's own",
    "PYTHONSTARTUP": "Python's own",
    "PYTHONUSERBASE": "Python's own",
    "PYTHONBREAKPOINT": "Python's own",
    "LD_PRELOAD": "the system's loader",
    "XDG_RUNTIME_DIR": "the system's place for sockets",
    "XDG_CONFIG_HOME": "the system's place for settings",
}
"""Environment variables that pages may name although we do not read them as settings."""


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of one kind, with their pages."""
    for page in PAGES:
        for block in FENCE.finditer(page.read_text(encoding="utf-8")):
            if block["kind"] == kind:
                yield name_of(page), block["body"]


def inline() -> Iterator[tuple[str, str]]:
    """Every piece of inline code, with its page."""
    for page in PAGES:
        for found in INLINE.finditer(without_blocks(page.read_text(encoding="utf-8"))):
            yield name_of(page), found[1]


SETTINGS = [(page, code) for page, code in inline() if re.fullmatch(r"[a-z][a-z_]+ = \S.*", code)]


def test_there_is_something_to_look_at() -> None:
    assert len(SETTINGS) >= 3
    assert list(blocks("toml"))


@pytest.mark.parametrize(("page", "written"), [one for one in blocks("toml") if "mcp_servers" not in one[1]])
def test_a_block_of_settings_is_taken_by_the_program(page: str, written: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(written, encoding="utf-8")
    load_config(file, data_dir=None, environ={})


@pytest.mark.parametrize(("page", "written"), SETTINGS)
def test_a_setting_in_the_text_is_taken_by_the_program(page: str, written: str, tmp_path: Path) -> None:
    key = written.split(" = ", maxsplit=1)[0]
    assert key in KEYS or key in FOLDER_KEYS, f"{page} names {key}"
    file = tmp_path / "config.toml"
    table = f"[{KEYS[key]}]\n{written}\n" if key in KEYS else f'[[folders]]\npath = "/x"\n{written}\n'
    file.write_text(table, encoding="utf-8")
    load_config(file, data_dir=None, environ={})


def test_tables_in_the_text_exist() -> None:
    named = {(page, code) for page, code in inline() if re.fullmatch(r"\[[a-z_]+\]", code)}
    assert named
    assert [(page, code) for page, code in named if code.strip("[]") not in TABLES] == []


def test_environment_variables_in_the_text_are_read_by_somebody() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"\b(?:FOLDER_MCP|HF|PYTHON|XDG)_?[A-Z][A-Z_]+\b", text))
    assert set(ENVIRONMENT) <= named
    assert named - set(ENVIRONMENT) - set(OTHERS) == set()
