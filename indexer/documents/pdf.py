"""PDF by page with pdfium, one file at a time per process; the converter reads what pdfium cannot open."""

from __future__ import annotations

from typing import Any

import pypdfium2

from indexer.documents.extract import extract
from indexer.documents.markup import plain_markdown
from indexer.errors import ParseFailed, ParseSkipped
from indexer.types import Document, Unit

PARSER = "pdf/1"
_CHARACTERS_OF_A_LABEL = 25
"""Characters per page up to which text beside a picture is a label or a stamp, not the text of the page."""
_PAGES_SAMPLED = 10
"""Pages that are searched for pictures."""
_ENCRYPTED = "encrypted: save it without a password to have it indexed"


def read_pdf(data: bytes, max_chars: int) -> Document:
    """The text layer of each page; blank pages are left out but keep their number.

    Raises:
        ParseSkipped: The pages are pictures (a scan), none has text, or a password is needed.
        ParseFailed: Neither library can open it.
    """
    try:
        book = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD or "password" in str(error).lower():
            raise ParseSkipped(_ENCRYPTED) from None
        return _converted(data, max_chars)
    try:
        if not len(book):
            raise ParseFailed("damaged: it has no pages")
        units = _pages(book, max_chars)
        if sum(len(unit.text) for unit in units) < _CHARACTERS_OF_A_LABEL * len(book):
            _raise_if_scan(book, units)
        title = str(book.get_metadata_value("Title") or "").strip()[:200]
    finally:
        book.close()
    return Document(units, "text", PARSER, title)


def _pages(book: Any, max_chars: int) -> tuple[Unit, ...]:
    units, remaining = [], max_chars
    for number in range(len(book)):
        text = _page(book, number)
        remaining -= len(text)
        if remaining < 0:
            raise ParseSkipped(f"more text than the limit of {max_chars:,} characters")
        if text.strip():
            units.append(Unit("page", str(number + 1), text))
    return tuple(units)


def _page(book: Any, number: int) -> str:
    """Text of one page; empty when that page is damaged, so that the others are still indexed."""
    try:
        page = book[number]
    except pypdfium2.PdfiumError:
        return ""
    try:
        text = page.get_textpage().get_text_range()
    except pypdfium2.PdfiumError:
        return ""
    finally:
        page.close()
    # pdfium writes U+FFFE (U+0002 in older files) for a hyphen at a line's end: the word continues in the next line.
    joined = text.replace("\r\n", "\n").replace("\ufffe\n", "").replace("\ufffe", "").replace("\x02\n", "")
    return str(joined).replace("\0", "").strip("\n")


def _raise_if_scan(book: Any, units: tuple[Unit, ...]) -> None:
    """Raise if the pages are pictures; a short text without pictures is just a short document."""
    for number in range(min(len(book), _PAGES_SAMPLED)):
        try:
            pictures = any(True for _ in book[number].get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))
        except pypdfium2.PdfiumError:
            continue
        if pictures:
            raise ParseSkipped("no text layer (pages are pictures): needs OCR, not indexed")
    if not units:
        raise ParseSkipped("no page has text")


def _converted(data: bytes, max_chars: int) -> Document:
    """Convert a file that pdfium cannot open."""
    found = extract(data, "pdf", max_chars)
    pages = ((page.number, plain_markdown(page.text)) for page in found.pages)
    units = tuple(Unit("page", str(number), text) for number, text in pages if text.strip())
    if not units:
        raise ParseFailed("damaged: no page of it can be read")
    return Document(units, "text", PARSER, found.title)
