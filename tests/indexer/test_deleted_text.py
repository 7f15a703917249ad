"""Text that was deleted, or blanked by a newer program, leaves the disk within the time that docs/store.md states."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from engines import engine_over, settings
from exits import bytes_below

from indexer.engine import Engine
from indexer.store.table import ERASE_AFTER_S
from indexer.types import Query
from mcp_server import logs

WORDS = ("zebrafish7315quixotic", "wombats4242marzipan")
"""Each is one token of the word index too: it holds them in lower case, as they are."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = []
    logs.configure(tmp_path / "data" / "logs")
    yield
    for one in root.handlers:
        one.close()
    root.handlers[:] = before
    root.setLevel(level)


async def wait_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time pass that upkeep takes at most when there is rest: an hour, and two minutes for old versions."""
    store = engine._components.store  # type: ignore[union-attr]
    now = time.time
    for hours in (1, 2):
        monkeypatch.setattr(time, "time", lambda: now() + hours * (ERASE_AFTER_S + 1))  # noqa: B023
        if store.maintenance_due():  # else the engine's own upkeep has run meanwhile
            await store.maintain()
    store.maintenance.keep = timedelta(milliseconds=1)
    await anyio.sleep(0.01)
    await store.maintain(force=True)
    monkeypatch.setattr(time, "time", now)


def holding(data: Path, word: str) -> list[str]:
    """Files below the data directory with a word in them, as UTF-8 or UTF-16."""
    return [
        name
        for name, content in bytes_below(data).items()
        if word.encode() in content or word.encode("utf-16-le") in content
    ]


@pytest.mark.slow
async def test_text_of_a_deleted_file_is_in_no_file_of_the_data_directory(
    tmp_path: Path, log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(20):
        (folder / f"n{number}.md").write_text(f"note {number} about bees\n", encoding="utf-8")
    (folder / "gone.md").write_text(f"# {WORDS[0]}\n\nThe {WORDS[1]} sings.\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        assert all(holding(tmp_path / "data", word) for word in WORDS)  # so that the search of bytes can find it
        (folder / "gone.md").unlink()
        await engine.index()
        await wait_out(engine, monkeypatch)
        assert (await engine.search(Query("bees"))).hits
        assert [holding(tmp_path / "data", word) for word in WORDS] == [[], []]
    assert [holding(tmp_path / "data", word) for word in WORDS] == [[], []]


@pytest.mark.slow
async def test_a_secret_that_was_indexed_while_it_was_allowed_leaves_the_disk_when_it_is_not(
    tmp_path: Path, log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = "gh" + "p_" + "zebrafish7315quixoticA1b2C3d4E5f6G7h8"
    for number in range(20):
        (folder / f"n{number}.md").write_text(f"note {number} about bees\n", encoding="utf-8")
    (folder / "note.md").write_text(f"The token is {secret} today.\n", encoding="utf-8")
    config = settings(tmp_path / "data")
    allowed = replace(config, secrets=replace(config.secrets, allow_files=("note.md",)))
    async with engine_over(tmp_path / "data", folder, config=allowed) as engine:
        await engine.index()
        assert holding(tmp_path / "data", secret)
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        await wait_out(engine, monkeypatch)
        assert holding(tmp_path / "data", secret) == []
        assert holding(tmp_path / "data", secret.lower()) == []


@pytest.mark.slow
async def test_a_secret_that_is_added_to_an_indexed_file_is_never_written(
    tmp_path: Path, log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = "gh" + "p_" + "zebrafish7315quixoticA1b2C3d4E5f6G7h8"
    (folder / "note.md").write_text("The token is in the vault.\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        (folder / "note.md").write_text(f"The token is {secret} today.\n", encoding="utf-8")
        await engine.search(Query("token vault"))
        await engine.index()
        assert holding(tmp_path / "data", secret) == []
        assert holding(tmp_path / "data", secret.lower()) == []
        assert (await engine.search(Query("token today"))).hits
