"""Pages of hits, and the size of answers, as a client gets them of the real engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engines import engine_over, settings
from fakes_engine import FakeEngine
from mcp import Client

from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.application import create_server

TOKENS = 25_000
"""What Claude Code takes of one answer; scripts without spaces take up to a token a character."""


@asynccontextmanager
async def over(context: ConnectionContext) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    async with Client(create_server(source)) as client:
        yield client


async def walked(client: Client, **arguments: Any) -> list[tuple[str, str]]:
    """Every hit of every page, by ``next_offset`` until there is none."""
    found: list[tuple[str, str]] = []
    offset: int | None = 0
    while offset is not None:
        result = await client.call_tool("search", {**arguments, "offset": offset})
        assert not result.is_error, result.content
        page = result.structured_content
        assert page["next_offset"] is None or page["next_offset"] == offset + len(page["hits"])
        assert page["hits"] or page["next_offset"] is None
        found += [(hit["path"], hit["locator"]) for hit in page["hits"]]
        offset = page["next_offset"]
    return found


@pytest.mark.slow
async def test_pages_of_any_size_have_every_hit_once_and_in_one_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(11):  # some alike: ties must have an order too
        words = f"apple {'pear ' * (number % 4)}{'x' * (number % 3)}\n"
        (folder / f"{number:02}.md").write_text(f"# Note {number % 5}\n\n{words}", encoding="utf-8")
    config = settings(tmp_path / "data")
    config = replace(config, search=replace(config.search, wait=60.0))  # for machines that do other things
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        async with over(ConnectionContext(engine)) as client:
            for mode in ("hybrid", "keyword", "semantic"):
                whole = await walked(client, query="apple", mode=mode, top_k=50)
                assert len(whole) == len(set(whole)) > 5
                for size in (2, 5):
                    assert await walked(client, query="apple", mode=mode, top_k=size) == whole


async def test_hits_that_the_budget_left_out_are_the_next_page(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:02}.md").write_text(f"apple 編集 {number} " + "索引検索結果" * 400, encoding="utf-8")
    async with over(ConnectionContext(engine := FakeEngine([str(folder)]))) as client:
        engine.started = True
        first = await client.call_tool("search", {"query": "apple", "top_k": 50, "max_chars": 20_000})
        assert len(first.structured_content["hits"]) < 50
        assert len(set(await walked(client, query="apple", top_k=50, max_chars=20_000))) == 50


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["word ", "索引検索"])
async def test_answers_fit_what_clients_take(tmp_path: Path, letters: str) -> None:
    folders = [tmp_path / f"folder {number}" for number in range(150)]
    for folder in folders:
        folder.mkdir()
    for number in range(60):
        (folders[0] / f"{number}.md").write_text(f"apple {letters * 2000}", encoding="utf-8")
        (folders[-1] / f"broken{number}{letters.strip() * 20}").write_text("x", encoding="utf-8")
    async with over(ConnectionContext(engine := FakeEngine([str(folder) for folder in folders]))) as client:
        engine.started = True
        for name, arguments in (
            ("search", {"query": "apple", "top_k": 50, "folders": str(folders[0])}),
            ("search", {"query": "apple"}),
            ("read", {"path": str(folders[0] / "0.md")}),
            ("status", {}),
            ("status", {"verbose": True}),
        ):
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            shown = json.dumps(result.structured_content, ensure_ascii=False)
            plain = sum(letter.isascii() for letter in shown)
            assert plain / 3 + len(shown) - plain < TOKENS, f"{name} {arguments}: {len(shown)} characters"
            assert len(result.content[0].text) < 50_000  # type: ignore[union-attr]
        assert len(result.structured_content["folders"]) < 150
        assert result.structured_content["folders"][-1]["path"] == str(folders[-1]), "the one with failures is shown"
        assert "more folders are not listed here (all ready)" in result.structured_content["notices"][-1]
