"""Questions: drawn where a heading has an answer below it, read from what the user wrote."""

from __future__ import annotations

import pytest

from indexer.errors import QueryError
from mcp_server.cli.bench import Question, from_headings, from_lines

BODY = "Some text that says a thing or two about it. " * 8
PAGE = f"# Rotating keys\n\n{BODY}\n\n## Where they live\n\n{BODY}\n\n## Short one here\n\nNo more.\n"


def test_a_heading_asks_and_the_text_below_it_answers() -> None:
    drawn = from_headings([("/a.md", PAGE)], 10)
    assert {(each.text, each.first, each.last) for each in drawn} == {
        ("Rotating keys", 1, 3),
        ("Where they live", 5, 7),
    }


def test_a_heading_that_stands_twice_has_no_one_answer() -> None:
    assert {each.text for each in from_headings([("/a.md", PAGE), ("/b.md", PAGE.replace("Where", "Here"))], 10)} == {
        "Where they live",
        "Here they live",
    }


def test_the_same_texts_draw_the_same_questions_and_no_more_than_asked() -> None:
    texts = [("/a.md", "\n".join(f"# Heading number {n}\n\n{BODY}\n" for n in range(30)))]
    assert from_headings(texts, 5) == from_headings(texts, 5)
    assert len(from_headings(texts, 5)) == 5
    assert from_headings(texts, 5, seed=1) != from_headings(texts, 5)
    assert from_headings([("/a.py", PAGE), ("/a.bin", PAGE)], 5) == []


def test_written_questions_are_read_with_paths_from_where_they_are_asked() -> None:
    lines = ['{"question": "who?", "path": "a.md", "lines": "3-9"}', "", '{"question": "why?", "path": "/n/b.md"}']
    assert from_lines(lines, "q", "/n") == [Question("who?", "/n/a.md", 3, 9), Question("why?", "/n/b.md")]


@pytest.mark.parametrize(
    "line", ["who?", "[]", '{"question": "who?"}', '{"question": "x", "path": "a", "lines": "z"}']
)
def test_a_line_that_is_no_question_is_named(line: str) -> None:
    with pytest.raises(QueryError, match=r"asked\.jsonl, line 2"):
        from_lines(["", line], "asked.jsonl", "/")


def test_an_answer_is_the_same_file_with_lines_in_common() -> None:
    asked = Question("x", "/a.md", 10, 20)
    assert asked.answered_by("/a.md", "lines 20-25") and asked.answered_by("/a.md", "lines 1-10")
    assert not asked.answered_by("/a.md", "lines 21-25") and not asked.answered_by("/b.md", "lines 10-20")
    assert asked.answered_by("/a.md", "page 3") and Question("x", "/a.md").answered_by("/a.md", "lines 400")
