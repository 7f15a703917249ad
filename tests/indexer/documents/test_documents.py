"""Each family of documents, read in one real worker process: places are named, quotes are found where chunks say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from documents import docx, epub, odt, pdf, pptx, xlsx, zipped

from indexer.documents.pool import open_parsers
from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.chunk import chunk
from indexer.text.structure import line_span
from indexer.types import Document, File

BOOK = [
    (0, "words before any heading"),
    (1, "Guide"),
    (0, "The first part."),
    (2, "Setup"),
    (0, "Turn the key. " * 120),
]


class Words:
    def starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in re.finditer(r"\w{1,6}|[^\w\s]", text)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def read_all(folder: Path, files: dict[str, bytes]) -> dict[str, Document | str]:
    """Parse files by the pool; the outcome of those that are refused is their reason."""
    found: dict[str, Document | str] = {}
    with anyio.fail_after(60):
        async with open_parsers() as parsers:
            for name, data in files.items():
                place = folder / name
                place.write_bytes(data)
                try:
                    parsed = await parsers.parse(File(str(place), str(folder), len(data), place.stat().st_mtime_ns))
                    found[name] = parsed.document
                except ParseSkipped as error:
                    found[name] = f"skipped: {error}"
                except ParseFailed as error:
                    found[name] = f"failed: {error}"
            assert parsers.status().restarts == 0
    return found


def places(document: Document | str) -> list[tuple[str, str, str]]:
    assert isinstance(document, Document), document
    return [(unit.kind, unit.name, unit.text) for unit in document.units]


@pytest.mark.slow
async def test_every_format_names_its_places_and_each_quote_stands_at_its_locator(tmp_path: Path) -> None:
    rows = [["Name", "City"], *[[f"Person {n}", f"Town {n}"] for n in range(120)]]
    found = await read_all(
        tmp_path,
        {
            "book.docx": docx(BOOK),
            "book.odt": odt(BOOK),
            "budget.xlsx": xlsx({"Budget": rows, 'The "2nd"': [["a", "b"], ["c", "d"]]}),
            "talk.pptx": pptx([("Welcome", "first words"), ("Results", "all went well")]),
            "manual.epub": zipped(
                {
                    "content.opf": '<package><manifest><item href="one%20a.xhtml" id="a"/><item id="c" href="s.css"/>'
                    "<item id='b' href='two.xhtml'/><item id='d' href='gone.xhtml'/></manifest><spine>"
                    '<itemref idref="d"/><itemref idref="b"/><itemref idref="c"/><itemref idref="a"/></spine>'
                    "</package>",
                    "s.css": "p { color: red }",
                    "one a.xhtml": "<head><title>x</title></head><body><h1>1. First</h1><p>words</p></body>",
                    "two.xhtml": "<html><body><h1>2. Second</h1><p>more words</p></body></html>",
                },
                "application/epub+zip",
            ),
            "novel.epub": epub([("Chapter One", "It was dark."), ("Chapter Two", "It was light.")]),
            "paper.pdf": pdf(["the first page says this plainly", "", "and the third one says that instead"]),
            "page.html": b"<html><head><title>A Page</title><style>x{}</style><script>var no;</script></head>"
            b"<body><h1>Top</h1>"
            b"<p>Some <b>bold</b> <a href='http://x.y/z'>linked</a> words.</p><h2>Deep</h2><p>"
            + b"More. " * 300
            + b"</p></body></html>",
            "memo.rtf": rb"{\rtf1\ansi\deff0{\fonttbl{\f0 Arial;}}\f0 A memo in rich text.\par}",
        },
    )
    assert ("section", "(start)", "words before any heading") in places(found["book.docx"])
    assert [name for _, name, _ in places(found["book.docx"])] == ["(start)", "Guide", "Guide > Setup"]
    assert [name for _, name, _ in places(found["book.odt"])] == ["(start)", "Guide", "Guide > Setup"]
    assert [(kind, name) for kind, name, _ in places(found["budget.xlsx"])] == [
        ("sheet", "Budget"),
        ("sheet", 'The "2nd"'),
    ]
    assert places(found["budget.xlsx"])[0][2].split("\n")[119] == "Person 118\tTown 118"
    assert [(kind, name) for kind, name, _ in places(found["talk.pptx"])] == [("slide", "1"), ("slide", "2")]
    assert [name for _, name, _ in places(found["manual.epub"])] == ["2. Second", "1. First"]
    assert [name for _, name, _ in places(found["novel.epub"])] == ["Chapter One", "Chapter Two"]
    assert [(kind, name) for kind, name, _ in places(found["paper.pdf"])] == [("page", "1"), ("page", "3")]
    page = places(found["page.html"])
    assert [name for _, name, _ in page] == ["(start)", "Top", "Top > Deep"]
    assert "Some bold linked words." in page[1][2]
    assert "no" not in page[0][2]
    assert "A memo in rich text." in places(found["memo.rtf"])[0][2]
    for document in found.values():
        assert isinstance(document, Document)
        for piece in chunk(document, Words(), 64):
            unit = next(u for u in document.units if u.name == piece.locator.unit)
            assert piece.text in line_span(unit.text, piece.locator.start, piece.locator.end)


@pytest.mark.slow
async def test_marks_that_link_to_their_own_place_are_no_part_of_headings(tmp_path: Path) -> None:
    page = """<html><body><h1>Timeouts<a class="headerlink" href="#t" title="Permalink to this headline">¶</a></h1>
    <p>A ¶ ends it, see <a href="#x">the note</a> and <a href="i/7">#</a>.</p>
    <dl><dt><code>run(it)</code><a class="headerlink" href="#r" title="Link to this definition">¶</a></dt>
    <dd>Runs it.</dd></dl>
    <h2><a href="#c">#</a> The C# side</h2><p>words</p><h2>Deep <a href="#d"><span>§</span></a></h2><p>more</p>
    <pre>[#](#kept)</pre></body></html>"""
    text = "\n".join(text for _, _, text in places((await read_all(tmp_path, {"a.html": page.encode()}))["a.html"]))
    lines = text.split("\n")
    assert {"# Timeouts", "## The C# side", "## Deep", "`run(it)`", "A ¶ ends it, see the note and #."} <= set(lines)
    assert "[#](#kept)" in text


@pytest.mark.slow
async def test_sheet_rows_are_the_numbers_the_spreadsheet_shows(tmp_path: Path) -> None:
    found = await read_all(tmp_path, {"low.xlsx": xlsx({"S": [["Name", "City"], ["Ada", "Turin"]]}, first_row=4)})
    assert places(found["low.xlsx"])[0][2].split("\n")[3:] == ["Name\tCity", "Ada\tTurin"]


@pytest.mark.slow
async def test_broken_and_misnamed_files_get_an_outcome_of_one_sentence(tmp_path: Path) -> None:
    whole = docx(BOOK)
    found = await read_all(
        tmp_path,
        {
            "pdf.docx": pdf(["a portable page in disguise, long enough"]),
            "word.pdf": whole,
            "cut.docx": whole[: len(whole) // 2],
            "stub.docx": whole[:400],
            "cut.pdf": pdf(["some words here"])[:300],
            "random.doc": bytes(range(1, 256)) * 20,
            "stuff.bin.docx": zipped({"a.txt": "hello"}),
            "scan.pdf": pdf(["", ""], picture=True),
            "blank.pdf": pdf(["", ""]),
            "empty.docx": b"",
            "page.doc": b"<html><body><p>Word wrote this as a page</p></body></html>",
            "locked.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"),
            "nested.eml": b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(400)
            ),
            "bomb.docx": zipped(
                {"word/document.xml": "<a>" + " " * 30_000_000 + "</a>", "[Content_Types].xml": "<T/>"}
            ),
        },
    )
    assert "disguise" in places(found["pdf.docx"])[0][2]
    assert [name for _, name, _ in places(found["word.pdf"])] == ["(start)", "Guide", "Guide > Setup"]
    for name in ("cut.docx", "stub.docx", "cut.pdf", "random.doc"):
        assert str(found[name]).startswith("failed: "), (name, found[name])
    assert found["stuff.bin.docx"] == "skipped: an archive; what is inside it is not indexed"
    assert found["scan.pdf"] == "skipped: no text layer (pages are pictures): needs OCR, not indexed"
    assert found["blank.pdf"] == "skipped: no page has text"
    assert found["empty.docx"] == Document((), "text", "empty/1")
    assert "Word wrote this" in places(found["page.doc"])[0][2]
    assert str(found["locked.xlsx"]).startswith("skipped: encrypted")
    assert not isinstance(found["bomb.docx"], Document)
    assert found["nested.eml"]


@pytest.mark.slow
async def test_pages_in_old_encodings_are_read_by_what_they_declare(tmp_path: Path) -> None:
    page = (
        "<html><head><meta charset='{}'><title>Т</title></head><body><p>Съешь ещё этих мягких булок</p></body></html>"
    )
    files = {f"{name}.html": page.format(name).encode(name) for name in ("windows-1251", "koi8-r", "utf-8", "utf-16")}
    for name, document in (await read_all(tmp_path, files)).items():
        assert "Съешь ещё этих мягких булок" in places(document)[0][2], name
