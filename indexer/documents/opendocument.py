"""OpenDocument texts and presentations: the text of every paragraph once and in order, also in shapes and frames.

The converter loses the text of shapes, puts the placeholders of master pages into the last slide and writes the text
of frames twice (measured: 52 of 53 words of a slide lost, 4,000 characters of placeholders), hence this reader.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field
from html import unescape
from itertools import pairwise
from xml.etree.ElementTree import ParseError, XMLParser

from indexer.documents.extract import ZIP_ERRORS, read_part
from indexer.documents.markup import sections
from indexer.errors import ParseFailed, ParseSkipped
from indexer.types import Document, Unit

PARSER = "opendocument/1"
_BYTES = 8
"""Bytes of markup allowed per character of text, over the whole file."""
_SPACES = 80
"""Most spaces in a row: a file gives their number, which may be any."""
_BLANK = re.compile(r"[ \t\r\n]+")
_SPACE_ELEMENTS = {"s": "\0", "tab": "\1", "line-break": "\2"}
_SPACE_CHARACTERS = {0: " ", 1: "\t", 2: "\n"}
"""Explicit white space is kept as characters that XML cannot contain until other white space has been collapsed."""
_TITLE = re.compile(r"<(?:\w+:)?title\b[^>]*>([^<]*)<")
_ITEM = re.compile(r" *(?:-|\d+\.) ")
_MAX_INDENT = 8
"""Deepest level of a list that is indented."""
_FRAMES = ("frame", "custom-shape")
_HIDDEN_ELEMENTS = ("tracked-changes", "page-number", "page-count", "note-citation", "forms")
"""Elements whose text is not shown as the author's: deleted text, counters, controls."""


def read_opendocument(data: bytes, kind: str, max_chars: int) -> Document:
    """A presentation (``odp``) by slide with its notes, a text by section.

    Raises:
        ParseSkipped: It is encrypted or exceeds the limit.
        ParseFailed: It is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            _refuse_encrypted(book)
            content = read_part(book, "content.xml", max_chars * _BYTES)
            about = read_part(book, "meta.xml", 1 << 20) if "meta.xml" in book.namelist() else b""
        slides = _read(content)
    except (*ZIP_ERRORS, ParseError, ValueError) as error:
        raise ParseFailed(f"damaged or not what its name says: {str(error)[:200]}") from None
    found = _TITLE.search(about.decode("utf-8", "replace"))
    title = unescape(found[1]).strip()[:200] if found else ""
    if kind == "odp":
        texts = ((str(number), slide) for number, slide in enumerate(slides[1:], 1) if slide.blocks)
        units = tuple(Unit("slide", number, slide.text, slide.title) for number, slide in texts)
        return Document(units, "markdown", PARSER, title)
    return Document(sections("\n\n".join(slide.text for slide in slides)), "markdown", PARSER, title)


def _refuse_encrypted(book: zipfile.ZipFile) -> None:
    """Raise ParseSkipped when the package's parts are encrypted."""
    name = "META-INF/manifest.xml"
    if name in book.namelist() and b"encryption-data" in read_part(book, name, 1 << 22):
        raise ParseSkipped("encrypted: save it without a password to have it indexed")


@dataclass(slots=True)
class _Slide:
    """The blocks of a slide, or of a whole text."""

    blocks: list[str] = field(default_factory=list)
    title: str = ""
    has_notes: bool = False

    @property
    def text(self) -> str:
        """The blocks separated by a blank line; items of a list and rows of a table by a line end."""
        kinds = ["row" if b.startswith("| ") else "item" if _ITEM.match(b) else "" for b in self.blocks]
        apart = ["\n" if a and a == b else "\n\n" for a, b in pairwise(kinds)]
        return "".join(block + gap for block, gap in zip(self.blocks, [*apart, ""], strict=True))


@dataclass(slots=True)
class _Paragraph:
    """An open paragraph: its level as a heading (0: none), its text so far, and what is written after it."""

    level: int
    text: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _List:
    """An open list: its style, whether its items are numbered, their number so far, the mark of the next one."""

    style: str
    ordered: bool
    items: int = 0
    next_mark: str = ""


def _read(content: bytes) -> list[_Slide]:
    """The text outside of slides, then each slide."""
    reader = _Reader()
    # Entities are not fetched, and expat stops their exponential expansion; the worker's limits bound the rest.
    parser = XMLParser(target=reader)  # noqa: S314
    parser.feed(content)
    parser.close()
    return reader.slides


class _Reader:
    """Receives elements one by one, so that deep nesting needs no recursion."""

    def __init__(self) -> None:
        self.slides = [_Slide()]
        self._paragraphs: list[_Paragraph] = []
        self._lists: list[_List] = []
        self._rows: list[list[list[str]]] = []
        self._frames: list[str] = []
        self._numbered: set[tuple[str, str]] = set()
        self._style = ""
        self._hidden = 0
        self._notes = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2]
        if self._hidden or name in _HIDDEN_ELEMENTS:
            self._hidden += 1
            return
        local = {key.rpartition("}")[2]: value for key, value in attributes.items()}
        if name in ("p", "h"):
            level = local.get("outline-level", "1") if name == "h" else "0"
            self._paragraphs.append(_Paragraph(min(int(level), 6)))
        elif name in _SPACE_ELEMENTS:
            self._add_text(_SPACE_ELEMENTS[name] * min(int(local.get("c", "1")), _SPACES))
        elif name == "table-row":
            self._rows.append([])
        elif name in ("table-cell", "covered-table-cell") and self._rows:
            self._rows[-1].append([])
        elif name in _FRAMES:
            self._frames.append(local.get("class", ""))
        elif name == "page":
            self.slides.append(_Slide())
        elif name == "notes":
            self._notes = True
        else:
            self._start_list(name, local)

    def _start_list(self, name: str, local: dict[str, str]) -> None:
        if name == "list-style":
            self._style = local.get("name", "")
        elif name == "list-level-style-number" and local.get("num-format"):
            self._numbered.add((self._style, local.get("level", "1")))
        elif name == "list":
            style = local.get("style-name", self._lists[-1].style if self._lists else "")
            self._lists.append(_List(style, (style, str(len(self._lists) + 1)) in self._numbered))
        elif name == "list-item" and self._lists:
            current = self._lists[-1]
            current.items += 1
            current.next_mark = f"{current.items}. " if current.ordered else "- "

    def data(self, text: str) -> None:
        """Text inside the element that is open."""
        if not self._hidden:
            self._add_text(text)

    def _add_text(self, text: str) -> None:
        if self._paragraphs:
            self._paragraphs[-1].text.append(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        name = tag.rpartition("}")[2]
        if self._hidden:
            self._hidden -= 1
        elif name in ("p", "h"):
            self._end_paragraph(self._paragraphs.pop())
        elif name == "list":
            self._lists.pop()
        elif name == "table-row":
            cells = [" ".join(" ".join(cell).split()) for cell in self._rows.pop()]
            if any(cells):
                self._add_block("| " + " | ".join(cells) + " |")
        elif name in _FRAMES:
            self._frames.pop()
        elif name == "notes":
            self._notes = False

    def close(self) -> None:
        """The document ends."""

    def _end_paragraph(self, ended: _Paragraph) -> None:
        """Write a paragraph, and after it the frames and footnotes inside it."""
        own = _BLANK.sub(" ", "".join(ended.text)).translate(_SPACE_CHARACTERS).strip()
        for text in (self._as_markdown(own, ended.level), *ended.after):
            if text and self._paragraphs:
                self._paragraphs[-1].after.append(text)
            elif text:
                self._add_block(text)

    def _as_markdown(self, text: str, level: int) -> str:
        """A paragraph as Markdown: a heading, an item of a list, or plain."""
        slide = self.slides[-1]
        if not text or self._rows:
            return text
        if "title" in self._frames[-1:] and not self._notes and not slide.title:
            slide.title, level = " ".join(text.split())[:120], 2
        if level:
            return f"{'#' * level} {' '.join(text.split())}"
        if self._notes and not slide.has_notes:
            slide.has_notes = True
            return f"Notes: {text}"
        if self._lists and self._lists[-1].next_mark:
            next_mark, self._lists[-1].next_mark = self._lists[-1].next_mark, ""
            return "   " * min(len(self._lists) - 1, _MAX_INDENT) + next_mark + text
        return text

    def _add_block(self, text: str) -> None:
        """Add a block to the open cell, else to the slide."""
        cell = self._rows[-1][-1] if self._rows and self._rows[-1] else self.slides[-1].blocks
        cell.append(text)
