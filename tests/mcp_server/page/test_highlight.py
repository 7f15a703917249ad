"""Matches are marked by the rules by which they were found, and nothing of the text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.text.tokens import query_tokens
from mcp_server.page.api import highlight


def words(text: str, query: str) -> list[str]:
    return [part for part, matches in highlight(text, query_tokens(query)) if matches]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        (
            "The swarms follow their queen to the new hive.",
            "how does a swarm follow the queen",
            ["swarms", "follow", "queen"],
        ),
        ("call parse_json_file(path) first", "parse_json_file", ["parse_json_file"]),
        ("Ключ подписи меняют в марте.", "ключи подписи", ["Ключ", "подписи"]),
        ("署名鍵は三月に交換する。", "署名鍵", ["署名鍵"]),
        ("nothing of it", "swarm", []),
        ("", "swarm", []),
    ],
)
def test_words_of_the_query_are_marked_in_all_their_forms(text: str, query: str, expected: list[str]) -> None:
    assert words(text, query) == expected


@given(st.text(max_size=200), st.text(max_size=40))
def test_the_pieces_put_together_are_the_text(text: str, query: str) -> None:
    parts = highlight(text, query_tokens(query))
    assert "".join(part for part, _ in parts) == text
    assert all(part for part, _ in parts)
