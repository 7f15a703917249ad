"""Office, RTF and Outlook files and their legacy forms: pages of the converter as slides, sheets and sections."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from html import unescape

from indexer.documents.extract import Extracted, Page, extract
from indexer.documents.markup import plain_markdown, read_epub, sections
from indexer.documents.opendocument import read_opendocument
from indexer.errors import ParseSkipped
from indexer.types import Document, Unit

PARSER = "office/1"
_SLIDES = {"pptx", "pptm", "ppsx", "potx", "odp", "otp", "ppt", "pps"}
_SHEETS = {"xlsx", "xlsm", "xltx", "xlsb", "xls", "ods", "ots"}
_OPENDOCUMENT = {"odt": "odt", "ott": "odt", "odp": "odp", "otp": "odp"}
_RULE = re.compile(r"^-----$", re.MULTILINE)
_ZIP_SIGNATURES = (
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
    """A document by slide (with its notes), by sheet (one line per row), or by section.

    Raises:
        ParseSkipped: It is an archive, not a document, encrypted, or beyond a limit.
        ParseFailed: The converter cannot read it.
    """
    kind = _real_suffix(data, suffix)
    if kind == "epub":
        return read_epub(data, max_chars)
    if kind in _OPENDOCUMENT and data.startswith(b"PK"):
        return read_opendocument(data, _OPENDOCUMENT[kind], max_chars)
    found = extract(data, kind, max_chars)
    if kind == "msg":
        text = plain_markdown(found.text)
        return Document((Unit("part", "1", text, found.title),) if text.strip() else (), "text", PARSER, found.title)
    if kind in _SHEETS and any(page.sheet for page in found.pages):
        return Document(_sheets(found, data), "table", PARSER, found.title)
    if kind in _SLIDES:
        return Document(_slides(found, kind), "markdown", PARSER, found.title)
    return Document(sections(plain_markdown(found.text)), "markdown", PARSER, found.title)


def _real_suffix(data: bytes, suffix: str) -> str:
    """The suffix that fits the content: names may be wrong, and ZIP and OLE files contain their format."""
    if data.startswith(b"PK\x03\x04"):
        return _zip_suffix(data, suffix)
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


def _zip_suffix(data: bytes, suffix: str) -> str:
    head, tail = data[:200], data[-200_000:]
    inside = [kind for mark, kind in _ZIP_SIGNATURES if mark in head or mark in tail]
    if not inside and not zipfile.is_zipfile(io.BytesIO(data)):
        return suffix  # truncated: its directory was at the end
    if not inside:
        raise ParseSkipped("an archive; what is inside it is not indexed")
    # A macro-enabled file, a template or a binary workbook has the same parts and another suffix.
    own = suffix if suffix in inside else _OOXML.get(suffix[:1], "")
    return suffix if own in inside and suffix not in ("zip", "ole", "doc", "dot", "xls", "ppt", "pps") else inside[0]


def _sheets(found: Extracted, data: bytes) -> tuple[Unit, ...]:
    first = first_rows(data) if data.startswith(b"PK") else {}
    units = []
    for page in found.pages:
        rows = "\n".join(_row(cells) for cells in page.rows) if page.rows else plain_markdown(page.text)
        if rows.strip():
            above = "\n" * min(first.get(page.sheet, 1) - 1, _ROWS)
            units.append(Unit("sheet", page.sheet, above + rows))
    return tuple(units)


def _row(cells: tuple[str, ...]) -> str:
    r"""One row as one line: cells separated by tabs, which cost no tokens; empty cells at the end are dropped."""
    return "\t".join(" ".join(cell.split()) for cell in cells).rstrip("\t")


def _slides(found: Extracted, kind: str) -> tuple[Unit, ...]:
    if kind in ("pptx", "pptm", "ppsx", "potx") and found.pages:
        texts = [(page.number, _slide(page)) for page in found.pages]
    else:
        # PPT comes as one text with a rule before each slide.
        parts = _RULE.split(found.text)
        texts = list(enumerate((plain_markdown(part) for part in parts[1:]), 1)) if len(parts) > 1 else []
        if not texts or parts[0].strip():
            texts.insert(0, (0 if texts else 1, plain_markdown(parts[0])))
    return tuple(Unit("slide", str(number), text, _headline(text)) for number, text in texts if text.strip())


def _slide(page: Page) -> str:
    notes = f"\n\nNotes: {plain_markdown(page.notes)}" if page.notes.strip() else ""
    return plain_markdown(page.text) + notes


def _headline(text: str) -> str:
    """The slide's title: its first line if that is a heading."""
    first = text.lstrip().split("\n", 1)[0]
    return first.lstrip("#").strip()[:120] if first.startswith("#") else ""


# Workbook -----------------------------------------------------------------------------------------------------------
# The converter returns rows from the first used one on, without its number. It is read here, so that row numbers are
# those that the spreadsheet shows.

_SHEET = re.compile(r"<(?:\w+:)?sheet\b[^>]*?\bname=\"([^\"]*)\"[^>]*?\b(?:\w+:)?id=\"([^\"]*)\"")
_RELATION = re.compile(r"<Relationship\b[^>]*>")
_ATTRIBUTE = re.compile(r"\b(Id|Target)=\"([^\"]*)\"")
_VALUE = re.compile(r"<(?:\w+:)?(?:v|is)\b")
_ROW = re.compile(r"<(?:\w+:)?row\b[^>]*?\br=\"(\d+)\"")
_READ = 1 << 20
"""Bytes of a part that are read: the first used row is near the start of its sheet."""


def first_rows(data: bytes) -> dict[str, int]:
    """Sheet name -> number (from 1) of its first row with a value; empty when it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            relations = _relations(_part(book, "xl/_rels/workbook.xml.rels"))
            found = {}
            for name, relation in _SHEET.findall(_part(book, "xl/workbook.xml")):
                target = relations.get(relation, "")
                path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                found[unescape(name)] = _first_row(_part(book, path)) if target else 1
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
        return {}


def _part(book: zipfile.ZipFile, name: str) -> str:
    """The beginning of a part as text, empty when it does not exist."""
    try:
        with book.open(name) as stream:
            return stream.read(_READ).decode("utf-8", "replace")
    except KeyError:
        return ""


def _relations(text: str) -> dict[str, str]:
    """Relation id -> target."""
    found = (dict(_ATTRIBUTE.findall(tag)) for tag in _RELATION.findall(text))
    return {r["Id"]: r["Target"] for r in found if "Id" in r and "Target" in r}


def _first_row(text: str) -> int:
    value = _VALUE.search(text)
    rows = _ROW.findall(text, 0, value.start()) if value else []
    return int(rows[-1]) if rows else 1
