"""The converter xberg: bytes of an Office, HTML, e-book or mail file in, Markdown by page out; parts of zip packages.

Runs in a worker process only. No cache, no OCR, no network, no file written.
"""

from __future__ import annotations

import asyncio
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from indexer.errors import ParseFailed, ParseSkipped


@dataclass(frozen=True, slots=True)
class Page:
    """A page, slide or sheet, as the library returns it.

    Attributes:
        number: From 1.
        text: Markdown.
        sheet: Name of a sheet of a spreadsheet, else empty.
        notes: Speaker notes of slides, else empty.
        rows: Cells of its first table, row by row (spreadsheets), else empty.
    """

    number: int
    text: str
    sheet: str
    notes: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Extracted:
    """The result of the library: the whole text as Markdown, and its pages where it knows them."""

    text: str
    pages: tuple[Page, ...]
    title: str


def extract(data: bytes, suffix: str, max_chars: int) -> Extracted:
    """Convert a document; ``suffix`` is a hint, its content decides.

    Raises:
        ParseSkipped: The file is encrypted, or exceeds a safety limit of the library.
        ParseFailed: The library cannot read it; the message is the library's own, in one sentence.
    """
    import xberg  # noqa: PLC0415  # 160 MB of code; some formats do without it

    try:
        result = asyncio.run(_convert(xberg, data, suffix, max_chars))
    except (RuntimeError, ValueError, OSError, xberg.XbergError) as error:
        raise _to_error(str(error)) from None
    if not result.results:
        raise _to_error("; ".join(str(e.message) for e in result.errors) or "no text came back")
    document = result.results[0]
    pages = tuple(_page(page) for page in document.pages or [])
    return Extracted(document.content or "", pages, document.metadata.title or "" if document.metadata else "")


async def _convert(xberg: Any, data: bytes, suffix: str, max_chars: int) -> Any:
    limits = xberg.SecurityLimits(max_content_size=max(max_chars * 4, 100 << 20), max_table_cells=2_000_000)
    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        enable_quality_processing=False,
        output_format="markdown",
        escape_markdown=False,
        pages=xberg.PageConfig(extract_pages=True),
        html_options=xberg.ConversionOptions(extract_metadata=False),
        security_limits=limits,
    )
    source = xberg.ExtractInput(kind="bytes", bytes=data, filename=f"file.{suffix}")
    return await xberg.extract(source, config)


def _page(page: Any) -> Page:
    cells = page.tables[0].cells if page.sheet_name and page.tables else []
    rows = tuple(tuple(str(cell) for cell in row) for row in cells)
    return Page(page.page_number, page.content or "", page.sheet_name or "", page.speaker_notes or "", rows)


def _to_error(message: str) -> ParseFailed:
    """The error for a message of the library; a file beyond its own limits is skipped and not retried."""
    brief = " ".join(message.split()).removeprefix("Parsing error: ")[:200]
    lowered = brief.lower()
    if "encrypt" in lowered or "password" in lowered:
        return ParseSkipped("encrypted: save it without a password to have it indexed")
    if "limit" in lowered or "bomb" in lowered or "ratio" in lowered or "security" in lowered:
        return ParseSkipped(f"refused as unsafe or too large: {brief}")
    if "unsupported" in lowered:
        return ParseSkipped(f"not a format that can be read: {brief}")
    return ParseFailed(f"damaged or not what its name says: {brief}")


# Parts of a package -------------------------------------------------------------------------------------------------
# A document that is a zip of parts.

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, KeyError)
"""The exceptions of the zip library for a file that is truncated, damaged or lacks a part."""


def read_part(book: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of a part.

    Raises:
        ParseSkipped: It has more than ``most`` bytes, whatever size the zip directory claims.
    """
    with book.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ParseSkipped(f"refused as unsafe or too large: its part {name} exceeds the limit")
    return data
