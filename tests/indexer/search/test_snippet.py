"""Snippets: within the budget, around the match, and safe to show."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from indexer.search.hits import snippet, strip_hidden
from indexer.text.tokens import query_tokens

FILLER = "Nothing of interest stands here. " * 30


@given(st.text(max_size=600), st.text(max_size=20), st.integers(16, 200))
def test_snippet_keeps_to_the_budget_and_hides_nothing(text: str, query: str, budget: int) -> None:
    shown = snippet(text, query_tokens(query), budget)
    assert len(shown) <= budget
    assert not any(unicodedata.category(letter) in {"Cc", "Cs"} and letter not in "\t\n" for letter in shown)


def test_passage_is_cut_around_the_match_at_sentence_borders() -> None:
    text = FILLER + "The needle lies in this sentence. " + FILLER
    assert snippet(text, query_tokens("needle"), 50) == "…The needle lies in this sentence.…"


def test_lines_stay_whole_where_they_fit() -> None:
    lines = [f"line {number} = value{number}" for number in range(100)]
    shown = snippet("\n".join(lines), query_tokens("value42"), 100)
    assert shown.split("\n")[2] == "line 42 = value42"


def test_passage_with_more_of_the_query_wins() -> None:
    text = f"needle needle needle. {FILLER}A needle in the haystack here. {FILLER}"
    assert "haystack" in snippet(text, query_tokens("needle haystack"), 60)


def test_stemmed_words_are_matches_too() -> None:
    assert "wings" in snippet(f"{FILLER}They had wings of wax. {FILLER}", query_tokens("a wing of what kind"), 60)


def test_short_text_is_shown_whole_and_no_match_shows_the_beginning() -> None:
    assert snippet("  short text\n", query_tokens("other"), 100) == "short text"
    assert snippet("Beginning here. " + FILLER, query_tokens("absent"), 40).startswith("Beginning here.")


def test_a_text_without_borders_is_cut_all_the_same() -> None:
    assert "针" in snippet("草" * 500 + "针" + "草" * 500, query_tokens("针"), 60)
    assert len(snippet("x" * 5000, query_tokens("x"), 60)) <= 60


def test_controls_bidi_zero_width_and_tags_are_stripped() -> None:
    hidden = "a\u202eb\u200bc\u2066d\U000e0041e\x1b[0mf\x00g\r\nh\ti"
    assert strip_hidden(hidden) == "abcde[0mfg\nh\ti"


def test_joiners_stay_where_a_script_needs_them() -> None:
    assert strip_hidden("می\u200cخواهم क्\u200dष") == "می\u200cخواهم क्\u200dष"
