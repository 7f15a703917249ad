"""A search over a real index: what is quoted is found in every mode, and no mode loses what another has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest
from engines import ask, engine_over, names

from indexer.engine import Engine
from indexer.types import Mode


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def lines(count: int) -> str:
    return "Nothing else of any note is said in these lines. " * count


@pytest.fixture(scope="module")
async def wagons(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """Has indexed seventy files that are all words of the phrase, and two long ones that hold it."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(70):
        (folder / f"{number}.txt").write_text(f"Light of red. Light of red. {number}", encoding="utf-8")
    for name in ("one", "two"):
        text = f"{lines(12)} The {name} wagon showed a Red  Light once. {lines(10)}"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    async with engine_over(tmp_path_factory.mktemp("data"), folder) as engine:
        await engine.index()
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("mode", get_args(Mode))
async def test_a_phrase_is_found_in_every_mode_however_deep(wagons: Engine, mode: Mode) -> None:
    loose = await ask(wagons, "red light", mode)
    exact = await ask(wagons, '"red light"', mode)
    absent = await ask(wagons, '"light green wagon"', mode)
    assert not {"one.txt", "two.txt"} & set(names(loose.hits))
    assert sorted(names(exact.hits)) == ["one.txt", "two.txt"]
    assert exact.mode_used == mode and exact.next_offset is None
    assert len(absent.hits) == 8


@pytest.mark.parametrize("query", ['"red light"', '"Red Light" wagon', '"light of red" 7', '"no such phrase" light'])
async def test_hybrid_finds_no_fewer_places_of_a_phrase_than_words_do(wagons: Engine, query: str) -> None:
    words, both = await ask(wagons, query, "keyword"), await ask(wagons, query, "hybrid")
    assert len(both.hits) >= len(words.hits)
    if '"no such' not in query:
        phrase = query.split('"')[1].lower()
        assert all(phrase in " ".join(hit.snippet.lower().split()) for hit in both.hits)


RUSSIAN = """Старый маяк стоит на северном берегу острова,
и его видно издалека, если нет тумана над водой,
а построили его рыбаки после бури, которая погубила
семь лодок и всех, кто был на них в ту ночь,
каждый вечер смотритель поднимается по лестнице,
зажигает лампу и смотрит на море до полуночи,
зимой он живёт там один, потому что дорога закрыта,
весной к нему приезжают дети и привозят хлеб,
летом на скалах сидят птицы, и камни от них белые,
осенью ветер срывает с крыши железо, и он чинит её,
лодку свою он держит в сарае под старой сосной,
а письма отдаёт капитану парохода, который идёт мимо
по вторникам, если море спокойно и видно огни.
"""


@pytest.mark.slow
async def test_a_question_over_pieces_of_a_paragraph_is_shown_the_piece_that_holds_the_words(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "mayak.txt").write_text(f"{RUSSIAN}\nЗавод делает стекло, и это знают все.\n", encoding="utf-8")
    (folder / "other.txt").write_text("Лампу купили в городе, но она не горит, и это жаль.\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        both = await ask(engine, "кто зажигает лампу в маяке на острове", "keyword")
        rare = await ask(engine, "полуночи", "keyword")
        phrase = await ask(engine, '"смотрит на море"', "keyword")
    assert names(both.hits)[0] == "mayak.txt"
    for answer in (rare, phrase):
        assert [("полуночи" in hit.snippet, hit.locator) for hit in answer.hits] == [(True, answer.hits[0].locator)]
        first, last = map(int, answer.hits[0].locator.removeprefix("lines ").split("-"))
        assert 1 < first <= 6 <= last < 12
