from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indexer.models.tokenizer import CHARS_PER_TOKEN, LONGEST_RUN, break_long_runs, break_offsets


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Ordinary text, with a URL https://example.org/" + "a" * 400
    assert break_long_runs(text) is text


def test_text_the_model_cannot_see_is_left_out() -> None:
    assert break_long_runs("ab " * 100_000, 10) == ("ab " * 100_000)[: 10 * CHARS_PER_TOKEN]


@given(st.lists(st.integers(0, 3 * LONGEST_RUN), max_size=6))
def test_no_run_stays_longer_than_allowed_and_nothing_else_changes(runs: list[int]) -> None:
    text = " ".join("x" * n for n in runs)
    short = break_long_runs(text)
    assert max((len(word) for word in short.split(" ")), default=0) <= LONGEST_RUN
    assert short.replace(" ", "") == text.replace(" ", "")
    assert len(short) == len(text) + len(break_offsets(text))
    for at in break_offsets(text):
        assert not text[at - 1].isspace()
        assert not text[at].isspace()
