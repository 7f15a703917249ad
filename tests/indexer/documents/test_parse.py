"""Formats by name and content, encodings, safe opening, and the families that need no worker to be tested."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.documents.encoding import decode
from indexer.documents.formats import by_content, by_name
from indexer.documents.mail import read_mail
from indexer.documents.markup import plain_markdown, sections
from indexer.documents.parse import Parsed, ParseLimits, format_of, open_source, parse_here
from indexer.documents.plain import read_notebook
from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.structure import line_of, line_span, line_starts

PROSE = {
    "cp1252": "Größe und Übermaß: Die Prüfung der Straßenlampen erfolgt jährlich im Frühjahr, größere Schäden früher.",
    "cp1250": "Zażółć gęślą jaźń. Spotkanie odbędzie się w najbliższą środę o godzinie dziesiątej, nie spóźnić się.",
    "cp1251": "Протокол совещания: в следующий вторник состоится осмотр нового склада, просим взять обувь.",
    "koi8-r": "Протокол совещания: в следующий вторник состоится осмотр нового склада, просим взять обувь.",
    "shift_jis": "会議の議事録：来週の火曜日に新しい倉庫の見学を行います。参加者は安全靴を持参してください。",
    "euc_jp": "会議の議事録：来週の火曜日に新しい倉庫の見学を行います。参加者は安全靴を持参してください。",
    "iso2022_jp": "会議の議事録：来週の火曜日に新しい倉庫の見学を行います。参加者は安全靴を持参してください。",
    "gb18030": "会议纪要：下周二将参观新仓库，参加者请自带安全鞋。预算表请见附件。",
    "utf-8": "naïve café 北京 🎉",
    "utf-8-sig": "with a mark 北京",
    "utf-16": "with a mark, wide 北京",
    "utf-16-le": "wide without a mark, mostly of Latin letters",
    "utf-16-be": "wide without a mark, mostly of Latin letters",
    "utf-32": "wider still",
}


def parsed_file(place: Path, limits: ParseLimits | None = None) -> Parsed:
    with open_source(str(place), str(place.parent)) as source:
        format_of(str(place), source)
        return parse_here(str(place), source, limits or ParseLimits())


@pytest.mark.parametrize("name", PROSE)
def test_text_in_any_encoding_is_read_and_its_mark_is_not_text(name: str) -> None:
    assert decode(PROSE[name].encode(name)) == PROSE[name]


@given(st.text())
def test_every_utf8_text_comes_back_as_it_was(text: str) -> None:
    assert decode(text.encode("utf-8-sig")) == text


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_decoder(data: bytes) -> None:
    assert isinstance(decode(data), str)


@pytest.mark.parametrize(
    ("path", "head", "family"),
    [
        ("a.txt", b"words", "plain"),
        ("a.unknown", b"words", "plain"),
        ("Makefile", b"all:\n", "plain"),
        ("a.txt", b"\x7fELF\x02\x01\x01\0\0\0", "binary"),
        ("a.txt", b"%PDF-1.7", "pdf"),
        ("a.txt", "wide words".encode("utf-16-le"), "plain"),
        ("a.docx", b"%PDF-1.7", "pdf"),
        ("a.pdf", b"PK\x03\x04", "office"),
        ("a.doc", b"{\\rtf1 x}", "office"),
        ("a.doc", b"<html><body>", "html"),
        ("a.xls", b"a\tb\n1\t2\n", "plain"),
        ("a.csv", b"a,b\n", "table"),
        ("a.PNG", b"anything", "binary"),
        ("a.zip", b"PK\x03\x04", "binary"),
        ("a.html", b"<p>", "html"),
        ("a.ipynb", b"{}", "notebook"),
    ],
)
def test_content_corrects_the_name(path: str, head: bytes, family: str) -> None:
    assert by_content(head, by_name(path)).family == family


def test_a_text_file_is_one_unit_with_its_own_line_ends(tmp_path: Path) -> None:
    place = tmp_path / "notes.md"
    place.write_bytes(b"\xef\xbb\xbf# A\r\n\r\n  text\r\n")
    parsed = parsed_file(place)
    assert [(u.kind, u.text) for u in parsed.document.units] == [("lines", "# A\r\n\r\n  text\r\n")]
    assert parsed.document.syntax == "markdown"


def test_a_table_of_text_is_a_sheet_whose_rows_are_the_files_lines(tmp_path: Path) -> None:
    place = tmp_path / "people.csv"
    place.write_text("a;b\n1;2\n", encoding="utf-8")
    unit = parsed_file(place).document.units[0]
    assert (unit.kind, unit.name, unit.text) == ("sheet", "people", "a;b\n1;2\n")


def test_an_empty_file_is_indexed_without_units(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert parsed_file(tmp_path / "empty.txt").document.units == ()


def test_lone_surrogates_never_reach_the_text(tmp_path: Path) -> None:
    place = tmp_path / "odd.ipynb"
    place.write_text('{"cells": [{"cell_type": "markdown", "source": "a\\ud800b"}]}', encoding="utf-8")
    assert parsed_file(place).document.units[0].text == "a?b"


def test_what_is_not_a_file_of_text_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("x" * 100, encoding="utf-8")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "program.txt").write_bytes(b"\x7fELF" + bytes(100))
    for name, kind, words in [
        ("link.txt", ParseSkipped, "symbolic link"),
        ("pipe.txt", ParseSkipped, "not a regular file"),
        ("program.txt", ParseSkipped, "binary"),
        ("picture.png", ParseSkipped, ".png"),
        ("gone.txt", ParseFailed, "gone"),
    ]:
        with pytest.raises(kind, match=words):
            parsed_file(tmp_path / name)
    with pytest.raises(ParseSkipped, match="larger than the limit of 0 MB"):
        parsed_file(tmp_path / "real.txt", ParseLimits(max_bytes=10))
    with pytest.raises(ParseSkipped, match="limit of 10 characters"):
        parsed_file(tmp_path / "real.txt", ParseLimits(max_chars=10))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch(mode=0)
    with pytest.raises(ParseFailed, match="permission denied"):
        parsed_file(tmp_path / "mine.txt")


def test_noise_under_a_documents_name_is_not_text(tmp_path: Path) -> None:
    place = tmp_path / "noise.eml"
    place.write_bytes(b"Subject: x\n\n" + bytes(range(1, 32)) * 50 + bytes(range(128, 256)) * 20)
    with pytest.raises(ParseFailed, match="not text"):
        parsed_file(place)


def test_notebook_cells_keep_their_number_their_source_and_their_text_output() -> None:
    book = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "words"]},
            {"cell_type": "code", "source": "", "outputs": []},
            {
                "cell_type": "code",
                "source": "print(6 * 7)",
                "outputs": [{"text": ["42\n"]}, {"data": {"text/plain": "done", "image/png": "iVBOR"}}],
            },
        ]
    }
    document = read_notebook(json.dumps(book).encode())
    assert [(u.name, u.text) for u in document.units] == [("1", "# Title\nwords"), ("3", "print(6 * 7)\n\n42\n\ndone")]
    assert document.title == "Title"
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": "1 + 1", "outputs": []}]}]}
    assert read_notebook(json.dumps(old).encode()).units[0].text == "1 + 1"
    for broken in (b"[1]", b"{", b"[" * 100_000):
        with pytest.raises(ParseFailed):
            read_notebook(broken)


MESSAGE = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@x.y>\nTo: k@x.y\nSubject: Budget\n\tfor 2025\nMIME-Version: 1.0\n"
    b'Content-Type: multipart/mixed; boundary="q"\n\n--q\nContent-Type: text/plain; charset=iso-8859-1\n\n'
    b"Gr\xfc\xdfe, J\xfcrgen\n--q\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\n"
    b"attached words\n--q\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=b.pdf\n\n"
    b"x\n--q--\n"
)


def test_a_message_has_its_headers_its_body_and_its_attachments_as_parts() -> None:
    document = read_mail(MESSAGE, "eml", 1000)
    assert document.title == "Budget for 2025"
    assert [u.name for u in document.units] == ["1", "2", "3"]
    assert "From: Jürgen <j@x.y>" in document.units[0].text
    assert document.units[0].text.endswith("Grüße, Jürgen")
    assert document.units[1].text == "Attachment: a.txt\nattached words"
    assert document.units[2].text == "Attachment: b.pdf"


def test_a_mailbox_is_a_part_a_message() -> None:
    box = b"From a@b Mon Jan 1 00:00:00 2024\n" + MESSAGE + b"\nFrom c@d Tue\nSubject: Two\n\nFrom here on it rains.\n"
    document = read_mail(box, "mbox", 1000)
    assert [(u.name, u.heading) for u in document.units] == [("1", "Budget for 2025"), ("2", "Two")]
    assert "From here on it rains." in document.units[1].text


def test_what_is_no_mail_is_refused() -> None:
    with pytest.raises(ParseFailed, match="not a mail"):
        read_mail(b"\nnothing here looks like a header\n", "eml", 1000)


def test_converted_markdown_reads_as_on_the_page() -> None:
    markdown = (
        "See [the *manual*](http://x.y/a_(b)) and ![a cat](data:image/png;base64,AAAA) **now**\\!\n\n"
        "| a   | b |\n| --- | :-: |\n| 1   | 2 |\n\n```\n[raw](text) **kept**\n```\n2 * 3 * 4 and a_b_c stay"
    )
    assert plain_markdown(markdown) == (
        "See the manual and a cat now!\n\n"
        "| a | b |\n| 1 | 2 |\n\n```\n[raw](text) **kept**\n```\n2 * 3 * 4 and a_b_c stay"
    )


def test_sections_cover_everything_and_equal_names_are_told_apart() -> None:
    long = "words " * 300
    text = f"before\n# A\n{long}\n## B\n{long}\n## B\n{long}\n# C\nshort\n## D\nshorter"
    found = sections(text)
    assert [u.name for u in found] == ["(start)", "A", "A > B", "A > B (2)", "C"]
    assert "".join("".join(u.text for u in found).split()) == "".join(text.split())


def test_lines_are_counted_as_grep_counts_them() -> None:
    text = "one\r\ntwo\rstill two\x0c\u2028still two\n\nfour"
    starts = line_starts(text)
    assert [line_of(starts, text.index(word)) for word in ("one", "two", "still", "four")] == [1, 2, 2, 4]
    assert line_span(text, 2, 3) == "two\rstill two\x0c\u2028still two\n\n"
    assert (line_span(text, 4, 99), line_span(text, 5, 9), line_span(text, 0, 0)) == ("four", "", text)
