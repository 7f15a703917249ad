"""What was indexed and is taken back (folder removed, ignore rule added, file made unreadable) leaves by no exit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from engines import engine_over, settings
from relays import ROOT
from taken_back import TEXT, clients, exits_that_show

pytestmark = pytest.mark.slow


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "taken.md").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture
def others(tmp_path: Path) -> Path:
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "bread.md").write_text("# Bread\n\nOne word on flour and salt.\n", encoding="utf-8")
    return folder


async def test_a_removed_folder_leaves_by_no_exit_at_once_after_a_scan_and_after_a_restart(
    tmp_path: Path, notes: Path, others: Path
) -> None:
    file = notes / "taken.md"
    async with engine_over(tmp_path / "data", notes, others) as engine, clients(engine) as opened:
        await engine.index()
        before = await exits_that_show(engine, opened, file)
        assert {"search by word", "read", "page read", "client 0 read", "client 1 search"} <= before, before
        await engine.remove_folder(str(notes))
        assert await exits_that_show(engine, opened, file) == set()
        await engine.index()
        assert await exits_that_show(engine, opened, file) == set()
    async with engine_over(tmp_path / "data") as engine, clients(engine) as opened:
        await engine.index()
        assert await exits_that_show(engine, opened, file) == set()


@pytest.mark.parametrize("rule", ["taken.md", "*.md", "/taken.md", "*"])
@pytest.mark.parametrize("name", [".folder-mcpignore", ".gitignore"])
async def test_a_file_under_a_new_ignore_rule_leaves_by_no_exit_after_the_next_scan(
    tmp_path: Path, notes: Path, others: Path, rule: str, name: str
) -> None:
    file = notes / "taken.md"
    async with engine_over(tmp_path / "data", notes, others) as engine, clients(engine) as opened:
        await engine.index()
        assert "read" in await exits_that_show(engine, opened, file)
        (notes / name).write_text(rule + "\n", encoding="utf-8")
        await engine.index()
        assert await exits_that_show(engine, opened, file) == set()


async def test_a_new_ignore_rule_is_noticed_without_being_told(tmp_path: Path, notes: Path, others: Path) -> None:
    file, config = notes / "taken.md", settings(tmp_path / "data")
    watching = replace(config, index=replace(config.index, watch=True))
    async with engine_over(tmp_path / "data", notes, others, config=watching) as engine, clients(engine) as opened:
        await engine.index()
        (notes / ".folder-mcpignore").write_text("taken.md\n", encoding="utf-8")
        async for status in engine.watch(at_most_every=0):
            if not sum(folder.files.indexed for folder in status.folders if folder.path == str(notes)):
                break
        assert await exits_that_show(engine, opened, file) == set()


def test_a_file_made_unreadable_leaves_by_no_exit_at_once_and_after_a_scan(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "support" / "taken_back.py"), str(tmp_path)]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root reads everything, and setpriv is missing")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert "read" in shown["before"] and "client 0 search" in shown["before"]
    assert shown["at once"] == shown["after a scan"] == []
