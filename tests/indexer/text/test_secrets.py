from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_secrets import KINDS, key_block, made_up

from indexer.text.secrets import KINDS as KNOWN_KINDS
from indexer.text.secrets import allowed_patterns, blank, count_markers, find_secrets, marker

MADE_UP = made_up(6)
GITHUB = "gh" + "p_" + "a1B2" * 9
"""A token put together here, so that no scanner takes this file for a leak."""
BEGIN, END = "-----BEGIN RSA PRIVATE" + " KEY-----", "-----END RSA PRIVATE" + " KEY-----"
SPACES = "\n\r\t "


def key_lines(count: int, seed: int = 1) -> list[str]:
    return key_block(random.Random(seed), "PRIVATE" + " KEY", count)[0].split("\n")[1:-1]


@pytest.mark.parametrize("made", MADE_UP, ids=lambda made: made.kind)
def test_a_secret_in_prose_is_blanked_and_the_words_around_it_stay(made) -> None:  # type: ignore[no-untyped-def]
    found = blank(f"The wombat needs it.\n{made.text}\nThe narwhal has the other half.\n")
    assert made.secret not in found.text
    assert found.text.startswith("The wombat needs it.\n") and found.text.endswith(
        "\nThe narwhal has the other half.\n"
    )
    assert count_markers(found.text) == len(found.kinds) > 0
    assert set(found.kinds) <= KNOWN_KINDS


def test_twenty_kinds_and_more_are_made_up_for_these_tests() -> None:
    assert len(KINDS) >= 20


@given(st.lists(st.sampled_from([*MADE_UP, *"abcde \n\r\t=:\"'", "\r\n", "é", "\u00ad", "password: "]), max_size=12))
def test_line_ends_are_kept_and_blanking_twice_is_blanking_once(pieces: list[object]) -> None:
    text = "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)  # type: ignore[attr-defined]
    once = blank(text).text
    assert re.findall(r"\r\n|\r|\n", once) == re.findall(r"\r\n|\r|\n", text)
    assert blank(once).text == once


@given(st.text(max_size=200))
def test_any_text_is_taken_and_what_is_found_lies_in_order_inside_it(text: str) -> None:
    last = 0
    for secret in find_secrets(text):
        assert last <= secret.start < secret.end <= len(text)
        last = secret.end


# Key blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [2, 60, 400, 5_000])
def test_a_key_block_is_blanked_whole_however_long_it_is(lines: int) -> None:
    text = "\n".join(["before", BEGIN, *key_lines(lines), END, "The wombat has the other half."])
    found = blank(text)
    assert found.kinds == ("private key",)
    assert "".join(found.text.split("\n")) == f"before{marker('private key')}The wombat has the other half."
    assert found.text.count("\n") == text.count("\n")


def test_several_blocks_in_a_row_are_several_secrets() -> None:
    text = "\n".join(line for n in range(3) for line in (BEGIN, *key_lines(20, n), END, f"note {n}"))
    assert blank(text).kinds == ("private key",) * 3
    assert "note 1" in blank(text).text


@pytest.mark.parametrize("prefix", ["> ", "# ", "    ", "| ", '    "', ">> > "])
def test_a_block_that_is_quoted_line_by_line_is_blanked_too(prefix: str) -> None:
    lines = key_lines(20)
    text = "\n".join(["before", *(prefix + line for line in (BEGIN, *lines, END)), "after"])
    found = blank(text).text
    assert not any(line in found for line in lines)
    assert found.startswith("before") and found.endswith("after")


def test_a_block_with_escaped_line_ends_is_blanked() -> None:
    lines = key_lines(20)
    found = blank('{"private_key": "' + "\\n".join((BEGIN, *lines, END)) + '\\n", "type": "service_account"}').text
    assert lines[10] not in found and "service_account" in found


def test_a_block_without_its_end_is_blanked_as_far_as_lines_are_key_text() -> None:
    lines = key_lines(30)
    found = blank("\n".join(["before", BEGIN, *lines[:20], "", "The wombat has the other half.", "more words"])).text
    assert not any(line in found for line in lines[:20])
    assert "The wombat has the other half." in found and "more words" in found


def test_a_quoted_first_line_costs_only_itself() -> None:
    text = f"A key begins with `{BEGIN}` and is then in lines.\nIt ends with `{END}`.\nKeep it safe."
    found = blank(text).text
    assert found.startswith("A key begins with `") and "` and is then in lines." in found
    assert found.endswith("Keep it safe.")


def test_the_rest_of_a_block_whose_beginning_is_cut_off_is_blanked() -> None:
    lines = key_lines(10)
    found = blank("\n".join(["a page that begins", *lines, END, "after"])).text
    assert not any(line in found for line in lines)
    assert found.startswith("a page that begins") and found.endswith("after")


def test_a_block_that_goes_on_in_the_next_text_is_blanked_there_too() -> None:
    lines = key_lines(40)
    first = blank("\n".join(["page one", BEGIN, *lines[:20]]))
    second = blank("\n".join([*lines[20:], END, "page two"]), open_key=first.open_key)
    assert first.open_key and not second.open_key
    assert not any(line in first.text + second.text for line in lines)
    assert second.text.endswith("page two")


# What is none -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "password: ********",
        "password: <your-password>",
        "password: changeme",
        "password: required",
        "api_key = os.environ['OPENAI_API_KEY']",
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "PASSWORD=$DB_PASSWORD",
        "url: postgres://user:password@localhost/x",
        "https://example.org:8080/@user",
        "max_tokens: 4096",
        "AKIA is a prefix, AKIA" + "IOSFODNN7EXAMPLE is Amazon's example",
        "sk-learn-is-a-library-of-many-estimators-and-models",
        'public_key_token="b77a5c561934e089aa"',
        "commit 8162330c2f0d9a7b6e5d4c3b2a19080706050403",
        '"integrity": "sha512-' + "Ab1+" * 21 + '=="',
        "id: 123e4567-e89b-12d3-a456-426614174000",
        "a task-force, the eyJ of a token, sk- and gh_ and xox, PRIVATE KEY",
        "gh" + "p_" + "x" * 36,
        "the password is the key to the house",
        "secret: the treasure lies beneath the old oak",
    ],
)
def test_placeholders_hashes_and_words_are_no_secrets(text: str) -> None:
    assert find_secrets(text) == ()


def test_in_source_code_a_value_without_quotes_is_an_expression_except_in_a_comment() -> None:
    assert find_secrets("password = hunter2", syntax="python") == ()
    assert [s.kind for s in find_secrets("password = 'hunter2'", syntax="python")] == ["password"]
    assert [s.kind for s in find_secrets("x = 1  # password: hunter2", syntax="python")] == ["password"]
    assert [s.kind for s in find_secrets("password = hunter2")] == ["password"]


def test_a_token_cut_by_characters_that_do_not_show_is_found() -> None:
    hidden = GITHUB[:20] + "\u00ad" + GITHUB[20:30] + "\u200b" + GITHUB[30:]
    assert blank(f"é {hidden} ü").text == f"é {marker('GitHub token')} ü"


def test_offsets_count_characters_not_bytes() -> None:
    text = f"日本語 {GITHUB} 日本語 {GITHUB}"
    assert [text[s.start : s.end] for s in find_secrets(text)] == [GITHUB, GITHUB]


# What the user allows -----------------------------------------------------------------------------------------------


def test_an_allowed_pattern_must_match_the_whole_secret() -> None:
    text = f"use {GITHUB} here"
    assert blank(text, ("gh" + "p_a1B2.*",)).text == text
    assert blank(text, ("a1B2",)).text != text
    assert blank(text, None).text == text


def test_a_pattern_that_does_not_compile_is_named() -> None:
    with pytest.raises(ValueError, match="RE2"):
        allowed_patterns(("(unclosed",))


# Time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "password" * 60_000,
        BEGIN * 10_000,
        END * 10_000,
        (BEGIN + "\n") * 10_000,
        ("A" * 70 + "\n") * 5_000 + END,
        "eyJ" * 150_000,
        "a://b:" * 80_000,
        "key = " * 80_000,
        "[" * 300_000 + "secret: " * 10_000,
        ("\u00ad" + "a") * 200_000,
        "password is " * 30_000,
        "é" + f"{GITHUB} " * 8_000,
        "x; password = hunter2; " * 15_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_more_than_linear_time(text: str) -> None:
    part = text[: len(text) // 8]
    blank(part, syntax="python")  # what is compiled once
    began = time.process_time()
    blank(part, syntax="python")
    small = time.process_time() - began
    began = time.process_time()
    blank(text, syntax="python")
    assert time.process_time() - began < max(0.5, small * 8 * 4)
