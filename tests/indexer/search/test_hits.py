"""Neighbours on request, and a budget that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import engine_over, names
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import QueryError
from indexer.search.hits import equal_share
from indexer.types import Query, Scope


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


WORDS = ["apple", "pear", "plum", "fig", "lime", "kiwi", "mango", "date", "quince", "medlar"]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """One file of ten chunks, each about a word of its own, under headings of their own."""
    folder = tmp_path / "book"
    folder.mkdir()
    parts = [f"# Part {n}\n\n" + f"Here the {word} is described at some length. " * 17 for n, word in enumerate(WORDS)]
    (folder / "fruit.md").write_text("\n\n".join(parts), encoding="utf-8")
    return folder


async def test_neighbours_are_joined_to_a_hit_and_its_place_covers_them(tmp_path: Path, book: Path) -> None:
    async with engine_over(tmp_path / "data", book) as engine:
        await engine.index()
        alone = (await engine.search(Query("mango", top_k=1, max_chars=20_000))).hits[0]
        near = (await engine.search(Query("mango", top_k=1, context=1, max_chars=20_000))).hits[0]
        reading = await engine.read(near.path, near.locator)
    assert "kiwi" not in alone.snippet and "date" not in alone.snippet
    assert all(word in near.snippet for word in ("kiwi", "mango", "date"))
    assert "lime" not in near.snippet and "quince" not in near.snippet
    assert reading.text.split() == near.snippet.split()


async def test_no_text_is_given_twice_when_neighbours_are_hits_themselves(tmp_path: Path, book: Path) -> None:
    async with engine_over(tmp_path / "data", book) as engine:
        await engine.index()
        answer = await engine.search(Query("pear fig", top_k=2, context=3, max_chars=20_000, mode="keyword"))
    shown = "\n".join(hit.snippet for hit in answer.hits)
    assert len(answer.hits) == 2
    assert [shown.count(f"# Part {n}\n") for n in range(10)].count(2) == 0
    assert "plum" in shown and "mango" in shown


async def test_a_snippet_with_neighbours_is_still_cut_around_the_match(tmp_path: Path, book: Path) -> None:
    async with engine_over(tmp_path / "data", book) as engine:
        await engine.index()
        hit = (await engine.search(Query("mango", top_k=1, context=3, max_chars=300))).hits[0]
    assert len(hit.snippet) <= 300 and "mango" in hit.snippet


@pytest.mark.slow
async def test_the_first_chunk_has_no_neighbour_before_and_a_page_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    (folder / "a.ipynb").write_text(
        '{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["zebra first cell"]}, '
        '{"cell_type": "markdown", "metadata": {}, "source": ["second cell of its own"]}], '
        '"metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        encoding="utf-8",
    )
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        hit = (await engine.search(Query("zebra", context=3))).hits[0]
    assert (hit.locator, hit.snippet) == ("cell 1", "zebra first cell")


@pytest.mark.slow
async def test_the_budget_is_kept_and_hits_that_would_be_shreds_go_to_the_next_page(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"apple {'pear ' * 60 * number} {number} end", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        every = await engine.search(Query("apple", top_k=8, mode="keyword"))
        small = await engine.search(Query("apple", top_k=8, max_chars=400, mode="keyword"))
        rest = await engine.search(Query("apple", top_k=8, offset=4, mode="keyword"))
    assert sum(len(hit.snippet) for hit in small.hits) <= 400
    assert len(small.hits) == 4 and small.next_offset == 4 and every.next_offset is None
    assert names(small.hits) + names(rest.hits) == names(every.hits)


@given(st.lists(st.integers(1, 3000), max_size=20), st.integers(200, 20_000))
def test_levelled_lengths_fill_the_budget_and_never_exceed_it(lengths: list[int], total: int) -> None:
    cut = [min(length, equal_share(lengths, total)) for length in lengths]
    assert sum(cut) <= total
    assert cut == lengths or sum(cut) > total - max(len(lengths), 1)


@pytest.mark.parametrize(
    ("query", "names_it"),
    [
        (Query("x", context=4), "context"),
        (Query("x", context=-1), "context"),
        (Query("x", max_chars=50), "max_chars"),
        (Query("x", max_chars=10**6), "max_chars"),
    ],
)
async def test_what_is_out_of_range_is_refused_by_name(tmp_path: Path, query: Query, names_it: str) -> None:
    async with engine_over(tmp_path / "data") as engine:
        with pytest.raises(QueryError, match=names_it):
            await engine.search(query)


@pytest.mark.slow
async def test_suffixes_narrow_both_legs_in_any_case(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.md", "b.TXT", "c.py", "md", "e.mdx", "it's.c++"):
        (folder / name).write_text(f"apple in {name}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()

        async def found(*suffixes: str, mode: str = "hybrid", glob: str | None = None) -> list[str]:
            scope = Scope(suffixes=suffixes, path_glob=glob)
            return sorted(names((await engine.search(Query("apple", scope=scope, mode=mode))).hits))  # type: ignore[arg-type]

        assert await found("md") == ["a.md"]
        assert await found("txt", "py", mode="semantic") == ["b.TXT", "c.py"]
        assert await found("c++") == ["it's.c++"]
        assert await found("md", "py", glob="c*") == ["c.py"]
        assert await found() == [] and await found("pdf") == []
