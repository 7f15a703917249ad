from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.protocol.untrusted import Fence, clean, one_line, shown_path, uri

ANY = st.text(st.characters(exclude_categories=()))


@given(ANY)
def test_cleaned_text_has_nothing_hidden_and_can_be_written_anywhere(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    for character in cleaned:
        assert unicodedata.category(character) not in {"Cs"}
        assert unicodedata.category(character) != "Cc" or character in "\n\t"
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
        assert not 0xE0000 <= ord(character) <= 0xE007F


@pytest.mark.parametrize(
    "text", ["plain", "naïve café", "שלום", "می‌خواهم", "👩‍👩‍👧 family", "葛󠄀城市", "tab\tand\nline", "हिन्दी"]
)
def test_the_worlds_writing_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_line_ends_of_every_kind_become_one_kind() -> None:
    assert clean("a\r\nb\rc\u2028d") == "a\nb\nc\nd"


def test_bytes_smuggled_in_variation_selectors_are_dropped() -> None:
    assert clean("a\U000e0101\U000e0102b") == "ab"


@given(ANY)
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize("name", ["a b.md", "quote'\".md", "emoji 👩‍👧.md", "שלום.md"])
def test_ordinary_names_are_shown_as_they_are(name: str) -> None:
    assert shown_path(f"/notes/{name}") == f"/notes/{name}"


@pytest.mark.parametrize(
    "name", ["new\nline.md", "caf\udce9.md", "gpj.\u202eexe", "tag\U000e0041", "bell\x07", "tab\t"]
)
def test_names_that_could_deceive_are_shown_as_addresses(name: str) -> None:
    shown = shown_path(f"/notes/{name}")
    assert shown == uri(f"/notes/{name}")
    assert shown.isascii()


def test_no_two_fences_are_the_same() -> None:
    assert len({Fence().begin for _ in range(100)}) == 100
