"""Office, OpenDocument, RTF, e-books and their legacy forms: pages of the converter as slides, sheets and sections."""

from __future__ import annotations

import io
import re
import zipfile

from indexer.errors import ParseSkipped
from indexer.text.epub import read_epub
from indexer.text.extract import Extracted, Page, extract
from indexer.text.opendocument import read_opendocument
from indexer.text.sections import readable, sections
from indexer.text.workbook import first_rows
from indexer.types import Document, Unit

PARSER = "office/1"
_SLIDES = {"pptx", "pptm", "ppsx", "potx", "odp", "otp", "ppt", "pps"}
_SHEETS = {"xlsx", "xlsm", "xltx", "xlsb", "xls", "ods", "ots"}
_OPEN = {"odt": "odt", "ott": "odt", "odp": "odp", "otp": "odp"}
_RULE = re.compile(r"^-----$", re.MULTILINE)
_INSIDE = (
    (b"word/", "docx"),
    (b"xl/", "xlsx"),
    (b"ppt/", "pptx"),
    (b"application/epub+zip", "epub"),
    (b"opendocument.text", "odt"),
    (b"opendocument.spreadsheet", "ods"),
    (b"opendocument.presentation", "odp"),
)
_OOXML = {"d": "docx", "x": "xlsx", "p": "pptx"}
_ROWS = 1 << 20
"""Rows that a sheet can have."""
_STREAMS = (("WordDocument", "doc"), ("Workbook", "xls"), ("Book", "xls"), ("PowerPoint Document", "ppt"))


def read_office(data: bytes, suffix: str, max_chars: int) -> Document:
    """A document by slide (with its notes), by sheet (a line a row), or by section.

    Raises:
        ParseSkipped: It is an archive and no document, encrypted, or beyond a limit.
        ParseFailed: The converter cannot read it.
    """
    kind = _kind(data, suffix)
    if kind == "epub":
        return read_epub(data, max_chars)
    if kind in _OPEN and data.startswith(b"PK"):
        return read_opendocument(data, _OPEN[kind], max_chars)
    found = extract(data, kind, max_chars)
    if kind == "msg":
        text = readable(found.text)
        return Document((Unit("part", "1", text, found.title),) if text.strip() else (), "text", PARSER, found.title)
    if kind in _SHEETS and any(page.sheet for page in found.pages):
        return Document(_sheets(found, data), "table", PARSER, found.title)
    if kind in _SLIDES:
        return Document(_slides(found, kind), "markdown", PARSER, found.title)
    return Document(sections(readable(found.text)), "markdown", PARSER, found.title)


def _kind(data: bytes, suffix: str) -> str:
    """The suffix that the content deserves: names lie, and ZIP and OLE files carry their kind inside."""
    if data.startswith(b"PK\x03\x04"):
        return _zip_kind(data, suffix)
    if not data.startswith(b"\xd0\xcf\x11\xe0"):
        return suffix
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise ParseSkipped("encrypted: save it without a password to have it indexed")
    if "__substg1.0_".encode("utf-16-le") in data and suffix in ("msg", "ole"):
        return "msg"
    kinds = [kind for stream, kind in _STREAMS if stream.encode("utf-16-le") in data]
    if not kinds and suffix == "ole":
        raise ParseSkipped("not a document that can be read (an OLE container)")
    return kinds[0] if kinds else suffix


def _zip_kind(data: bytes, suffix: str) -> str:
    head, tail = data[:200], data[-200_000:]
    inside = [kind for mark, kind in _INSIDE if mark in head or mark in tail]
    if not inside and not zipfile.is_zipfile(io.BytesIO(data)):
        return suffix  # cut off: its directory stood at the end
    if not inside:
        raise ParseSkipped("an archive; what is inside it is not indexed")
    # A macro-enabled file, a template, a binary workbook: the same parts under a suffix of its own.
    own = suffix if suffix in inside else _OOXML.get(suffix[:1], "")
    return suffix if own in inside and suffix not in ("zip", "ole", "doc", "dot", "xls", "ppt", "pps") else inside[0]


def _sheets(found: Extracted, data: bytes) -> tuple[Unit, ...]:
    first = first_rows(data) if data.startswith(b"PK") else {}
    units = []
    for page in found.pages:
        rows = "\n".join(_row(cells) for cells in page.rows) if page.rows else readable(page.text)
        if rows.strip():
            above = "\n" * min(first.get(page.sheet, 1) - 1, _ROWS)
            units.append(Unit("sheet", page.sheet, above + rows))
    return tuple(units)


def _row(cells: tuple[str, ...]) -> str:
    r"""One row as one line: cells apart by a tab, which costs the model no token; empty ends dropped."""
    return "\t".join(" ".join(cell.split()) for cell in cells).rstrip("\t")


def _slides(found: Extracted, kind: str) -> tuple[Unit, ...]:
    if kind in ("pptx", "pptm", "ppsx", "potx") and found.pages:
        texts = [(page.number, _slide(page)) for page in found.pages]
    else:
        # PPT comes as one text with a rule before each slide.
        parts = _RULE.split(found.text)
        texts = list(enumerate((readable(part) for part in parts[1:]), 1)) if len(parts) > 1 else []
        if not texts or parts[0].strip():
            texts.insert(0, (0 if texts else 1, readable(parts[0])))
    return tuple(Unit("slide", str(number), text, _headline(text)) for number, text in texts if text.strip())


def _slide(page: Page) -> str:
    notes = f"\n\nNotes: {readable(page.notes)}" if page.notes.strip() else ""
    return readable(page.text) + notes


def _headline(text: str) -> str:
    """The slide's title: its first line if that is a heading."""
    first = text.lstrip().split("\n", 1)[0]
    return first.lstrip("#").strip()[:120] if first.startswith("#") else ""
