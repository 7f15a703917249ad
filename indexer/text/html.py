"""HTML: decoded here by the same cascade as text, then converted; sections by heading path."""

from __future__ import annotations

import re
from html import unescape

from indexer.text.encoding import decode
from indexer.text.extract import extract
from indexer.text.sections import readable, sections
from indexer.types import Document

PARSER = "html/1"
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_DECLARED = re.compile(r"(<meta[^>]+charset\s*=\s*[\"']?\s*)([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style|title|template)\b.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def read_html(data: bytes, max_chars: int) -> Document:
    """A page's text by heading path; scripts, styles and hidden parts are left out.

    Raises:
        ParseFailed: The converter refuses the page.
    """
    page = _text(data)
    if not page.strip():
        return Document((), "markdown", PARSER)
    title, text = _title(page), _converted(page, max_chars)
    if title and title not in text:
        text = f"{title}\n\n{text}"
    return Document(sections(text), "markdown", PARSER, title)


def page_text(data: bytes, max_chars: int) -> str:
    """A page's text as Markdown that reads, without its title; the errors of ``read_html``."""
    page = _text(data)
    return _converted(page, max_chars) if page.strip() else ""


def _converted(page: str, max_chars: int) -> str:
    converted = extract(_DECLARED.sub(r"\1utf-8", page).encode("utf-8", "replace"), "html", max_chars)
    return readable(converted.text) or _stripped(page)


def _text(data: bytes) -> str:
    """Decode a page: a byte order mark and valid UTF-8 win over what the page declares, that over a guess."""
    declared = _CHARSET.search(data[:4096])
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                return data.decode(declared[1].decode("ascii"), errors="replace")
            except LookupError:
                pass  # an encoding nobody knows: guess
    return decode(data)


def _stripped(page: str) -> str:
    """The text between the tags: for pages so broken that the converter finds nothing in them."""
    bare = _TAG.sub(" ", _HIDDEN.sub(" ", page))
    lines = (" ".join(line.split()) for line in unescape(bare).split("\n"))
    return "\n".join(line for line in lines if line)


def _title(page: str) -> str:
    found = _TITLE.search(page[:100_000])
    return " ".join(unescape(found[1]).split())[:200] if found else ""
