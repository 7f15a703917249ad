"""A search over a real index: what is quoted is found in every mode, and no mode loses what another has."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from engines import ask, engine_over, names

from indexer.answer import Mode


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def lines(count: int) -> str:
    return "Nothing else of any note is said in these lines. " * count


@pytest.fixture
def wagons(tmp_path: Path) -> Path:
    """Seventy files that are all words of the phrase, and two long ones that hold it."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(70):
        (folder / f"{number}.txt").write_text(f"Light of red. Light of red. {number}", encoding="utf-8")
    for name in ("one", "two"):
        text = f"{lines(12)} The {name} wagon showed a Red  Light once. {lines(10)}"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("mode", get_args(Mode))
async def test_a_phrase_is_found_in_every_mode_however_deep(wagons: Path, mode: Mode, tmp_path: Path) -> None:
    async with engine_over(tmp_path / "data", wagons) as engine:
        await engine.index()
        loose = await ask(engine, "red light", mode)
        exact = await ask(engine, '"red light"', mode)
        absent = await ask(engine, '"light green wagon"', mode)
    assert not {"one.txt", "two.txt"} & set(names(loose.hits))
    assert sorted(names(exact.hits)) == ["one.txt", "two.txt"]
    assert exact.mode_used == mode and exact.next_offset is None
    assert len(absent.hits) == 8


@pytest.mark.parametrize("query", ['"red light"', '"Red Light" wagon', '"light of red" 7', '"no such phrase" light'])
async def test_hybrid_finds_no_fewer_places_of_a_phrase_than_words_do(
    wagons: Path, query: str, tmp_path: Path
) -> None:
    async with engine_over(tmp_path / "data", wagons) as engine:
        await engine.index()
        words, both = await ask(engine, query, "keyword"), await ask(engine, query, "hybrid")
    assert len(both.hits) >= len(words.hits)
    if '"no such' not in query:
        phrase = query.split('"')[1].lower()
        assert all(phrase in " ".join(hit.snippet.lower().split()) for hit in both.hits)
