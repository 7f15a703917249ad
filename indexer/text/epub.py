"""EPUB: the chapters in the book's own reading order, each converted as a page; sections by heading path.

The converter's own EPUB reading loses whole chapters of books (measured: of two Debian manuals it gave style sheets
and an index), hence only its HTML reading is used.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from html import unescape
from urllib.parse import unquote

from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.html import page_text
from indexer.text.package import DAMAGED, read_part
from indexer.text.sections import sections
from indexer.types import Document

PARSER = "epub/1"
_TAG = r"<(?:\w+:)?%s\b[^>]*>"
_ATTRIBUTE = re.compile(r"\b([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_TITLE = re.compile(r"<(?:\w+:)?title\b[^>]*>([^<]*)<")
_PAGES = ("xhtml", "html", "htm", "xml")
_BYTES = 4
"""Bytes of markup that a character of text may take, on the whole."""


def read_epub(data: bytes, max_chars: int) -> Document:
    """A book's text by heading path, in reading order; the chapters that it names and lacks are passed over.

    Raises:
        ParseSkipped: Its chapters are encrypted, or it exceeds the limit.
        ParseFailed: It is no EPUB that can be read, or names no chapters.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            left = max_chars * _BYTES
            package = _package(book)
            source = read_part(book, package, left)
            texts = []
            for name in _chapters(book, package, source):
                page = read_part(book, name, left)
                left -= len(page)
                texts.append(page_text(page, max_chars))
    except DAMAGED as error:
        raise ParseFailed(f"damaged or not what its name says: {str(error)[:200]}") from None
    title = _TITLE.search(source.decode("utf-8", "replace"))
    text = "\n\n".join(text for text in texts if text.strip())
    return Document(sections(text), "markdown", PARSER, unescape(title[1]).strip()[:200] if title else "")


def _package(book: zipfile.ZipFile) -> str:
    """The part that lists the others; some writers leave out the container that names it."""
    names = book.namelist()
    if "META-INF/container.xml" in names:
        text = read_part(book, "META-INF/container.xml", 1 << 20).decode("utf-8", "replace")
        for tag in re.findall(_TAG % "rootfile", text):
            if (path := _attributes(tag).get("full-path")) in names:
                return path
    found = next((name for name in names if name.endswith(".opf")), "")
    if not found:
        raise ParseFailed("damaged: the book has no list of its parts")
    return found


def _chapters(book: zipfile.ZipFile, package: str, source: bytes) -> list[str]:
    """Names of the parts with text, in reading order."""
    text = source.decode("utf-8", "replace")
    items = [_attributes(tag) for tag in re.findall(_TAG % "item", text)]
    paths = {
        item["id"]: posixpath.normpath(
            posixpath.join(posixpath.dirname(package), unquote(unescape(item["href"]).partition("#")[0]))
        )
        for item in items
        if "id" in item and "href" in item
    }
    order = [paths.get(_attributes(tag).get("idref", ""), "") for tag in re.findall(_TAG % "itemref", text)]
    names = frozenset(book.namelist())
    found = [path for path in dict.fromkeys(order) if path in names and path.lower().endswith(_PAGES)]
    if not found:
        raise ParseFailed("damaged: the book names no chapters that are in it")
    if "META-INF/encryption.xml" in names:
        sealed = read_part(book, "META-INF/encryption.xml", 1 << 20).decode("utf-8", "replace")
        if any(path in unquote(sealed) for path in found):
            raise ParseSkipped("encrypted: the book is protected against copying")
    return found


def _attributes(tag: str) -> dict[str, str]:
    return {name: first or second for name, first, second in _ATTRIBUTE.findall(tag)}
