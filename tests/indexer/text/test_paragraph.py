"""Short pieces of one paragraph are searched by its words; nothing is borrowed across its ends."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.documents.worker_protocol import chunk_document
from indexer.text.chunk import PARAGRAPH, SHORT, chunk, surroundings
from indexer.types import Chunk, Document, Locator, Unit


class LetterTokens:
    """A tokenizer that does not know the script: every letter is a token."""

    def starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in re.finditer(r"\S", text)]


class WordTokens:
    """A tokenizer that knows it."""

    def starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in re.finditer(r"\w+|[^\w\s]", text)]


SENTENCES = (
    "Старый маяк стоит на северном берегу острова и виден издалека.",
    "Его построили рыбаки после бури, которая погубила семь лодок.",
    "Каждый вечер смотритель поднимается по лестнице и зажигает лампу.",
    "Зимой он живёт там один, потому что дорога закрыта льдом.",
    "Весной к нему приезжают дети из деревни и привозят хлеб.",
)
OTHER = "Завод в соседнем городе делает стекло для окон и для фонарей, и все это знают."
PROSE = " ".join(SENTENCES)
LIMIT = 100


def one(text: str, syntax: str = "text", kind: str = "lines") -> Document:
    return Document((Unit(kind, "", text),), syntax, "test/1")  # type: ignore[arg-type]


def pieces(document: Document) -> tuple[Chunk, ...]:
    return chunk(document, LetterTokens(), LIMIT)


def found_by(word: str, document: Document) -> list[int]:
    """How often each chunk's tokens have a word."""
    made = chunk_document(document, LetterTokens(), LIMIT, "a.txt")
    assert made.language == "ru"
    return [tokens.split(" ").count(word) for tokens in made.tokens]


def test_pieces_of_a_paragraph_are_found_by_each_others_words_and_most_by_their_own() -> None:
    document = one(PROSE)
    parts = pieces(document)
    assert len(parts) >= 4
    own = [len(re.findall("лампу", part.text)) for part in parts]
    assert sum(own) == 1
    assert found_by("лампу", document) == [2 if has else 1 for has in own]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n", "\n- ", "\n \n"])
def test_nothing_is_borrowed_from_the_next_paragraph(end: str) -> None:
    document = one(f"{PROSE}{end}{OTHER}")
    held = ["завод" in part.text.casefold() for part in pieces(document)]
    assert 0 < sum(held) < len(held)
    assert [bool(count) for count in found_by("завод", document)] == held


def test_wrapped_lines_are_one_paragraph() -> None:
    words = PROSE.replace(".", ",").split(" ")
    wrapped = "\n".join(" ".join(words[at : at + 5]) for at in range(0, len(words), 5))
    assert all(found_by("лампу", one(wrapped)))


def test_chunks_that_are_not_short_are_searched_by_their_own_words_alone() -> None:
    text = " ".join(SENTENCES * 6)
    parts = chunk(one(text), WordTokens(), 140)
    assert len(parts) > 1
    assert all(len(part.text) >= SHORT for part in parts)
    assert {each.reach for each in surroundings(one(text), parts)} == {0}


def test_the_short_end_of_a_section_borrows_nothing_from_a_long_chunk_before_it() -> None:
    text = " ".join(SENTENCES * 2)
    parts = (Chunk(0, text[:500], "", _line()), Chunk(1, text[501:], "", _line()))
    assert len(parts[1].text) < SHORT
    assert surroundings(one(text), parts)[1].texts == ()


@pytest.mark.parametrize(("syntax", "kind"), [("python", "lines"), ("table", "sheet"), ("text", "sheet")])
def test_code_and_tables_have_no_paragraphs(syntax: str, kind: str) -> None:
    document = one(PROSE, syntax, kind)
    assert not any(each.texts for each in surroundings(document, pieces(document)))


def test_what_was_left_out_for_a_secret_is_not_borrowed_nor_passed_over() -> None:
    document = one(PROSE)
    parts = pieces(document)
    kept = (*parts[:2], *parts[3:])
    around = surroundings(document, kept)
    assert all(parts[2].text not in each.texts for each in around)
    assert around[1].texts == (parts[0].text,)


def test_a_long_paragraph_is_borrowed_as_far_as_a_paragraphs_worth() -> None:
    document = one(" ".join(SENTENCES * 20))
    parts = pieces(document)
    longest = max(len(part.text) for part in parts)
    for part, each in list(zip(parts, surroundings(document, parts), strict=True))[10:-10]:
        assert PARAGRAPH - 50 <= len(part.text) + sum(map(len, each.texts)) <= PARAGRAPH + longest


def test_units_of_one_name_are_not_mixed_up() -> None:
    units = tuple(Unit("section", "A", text) for text in (PROSE, OTHER, PROSE.upper()))
    document = Document(units, "text", "test/1")
    parts = pieces(document)
    alone = [
        surroundings(Document((unit,), "text", "test/1"), pieces(Document((unit,), "text", "test/1")))
        for unit in units
    ]
    assert surroundings(document, parts) == [each for unit in alone for each in unit]


@settings(max_examples=scaled(60))
@given(st.text(alphabet="абв гд.\n-|1", max_size=1500))
def test_what_is_borrowed_stands_in_neighbouring_chunks_within_reach(text: str) -> None:
    document = one(text)
    parts = pieces(document)
    for at, each in enumerate(surroundings(document, parts)):
        near = [part.text for part in parts[max(0, at - each.reach) : at + each.reach + 1]]
        assert all(any(borrowed in part for part in near) for borrowed in each.texts)


def _line() -> Locator:
    return Locator("lines", "", 1, 1)
