from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.types import Answer, Hit, Reading, Semantic
from mcp_server.protocol import results
from mcp_server.protocol.render import read_text, search_text
from mcp_server.protocol.results import ReadResult, SearchResult, to_iso


def result_of(snippets: list[str], path: str = "/notes/a.md") -> SearchResult:
    hits = tuple(Hit(path, "/notes", "lines 1-9", "", text, 1.0, ("keyword",), 1.7e9, False) for text in snippets)
    return SearchResult.of(Answer(hits, "hybrid", Semantic("served", 1.0), (), None, (), 1.0), "query")


def test_short_answers_are_left_alone() -> None:
    result = result_of(["one", "two"])
    assert results.fit_search(result, 0) == result


def test_long_snippets_are_shortened_evenly_and_said_so() -> None:
    result = results.fit_search(result_of(["x" * 3000] * 8 + ["short"]), 0)
    lengths = [len(hit.snippet) for hit in result.hits]
    assert lengths[-1] == 5
    assert max(lengths) - min(lengths[:-1]) == 0
    assert sum(lengths) <= results.MAX_SNIPPET_CHARS
    assert "shortened" in result.notices[-1]
    assert "read(path, locator)" in result.notices[-1]


def test_hits_that_do_not_fit_are_left_to_the_next_page() -> None:
    result = results.fit_search(result_of(["x" * 700] * 50, path="/" + "long" * 300), 10)
    assert 0 < len(result.hits) < 50
    assert result.next_offset == 10 + len(result.hits)
    assert f"offset={result.next_offset}" in result.notices[-1]
    assert len(result.model_dump_json().encode()) < results.MAX_RESULT_BYTES + 2_000


@given(st.lists(st.text("aé漢", max_size=4000), max_size=50))
def test_every_answer_fits_in_both_forms_and_keeps_its_order(snippets: list[str]) -> None:
    result = results.fit_search(result_of(snippets), 0)
    assert len(result.model_dump_json().encode()) <= results.MAX_RESULT_BYTES + 4_000
    assert len(search_text(result).encode()) <= results.MAX_RESULT_BYTES + 4_000
    for before, after in zip(snippets, result.hits, strict=False):
        assert before.strip().startswith(after.snippet.removesuffix(" …").strip())


def test_a_full_page_with_fifty_hits_stays_under_the_size_of_the_strictest_client() -> None:
    result = results.fit_search(result_of(["word " * 200] * 50), 0)
    assert len(search_text(result)) < 30_000


def test_a_cut_reading_says_how_to_go_on() -> None:
    reading = Reading("/a", "lines 1-3", "a\nb\nc\n", 1, (), 9, True, "lines 4-9", False)
    result = results.fit_reading(ReadResult.of(reading), 200)
    assert 'locator="lines 4-9"' in result.notices[0]
    assert "3\tc" in read_text(result)
    assert "4\t" not in read_text(result)


@pytest.mark.parametrize("moment", [0.0, -1e18, 1e18, time.time()], ids=["epoch", "long-ago", "far-off", "now"])
def test_any_time_a_file_system_gives_becomes_a_date_with_zone(moment: float) -> None:
    text = to_iso(moment)
    assert text[4] == "-"
    assert text[-6] in "+-"
