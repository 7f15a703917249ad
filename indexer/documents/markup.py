"""HTML and EPUB by heading path; Markdown of the converter to plain text, and its division into sections."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from html import unescape
from itertools import accumulate
from urllib.parse import unquote

from indexer.documents.encoding import decode
from indexer.documents.extract import ZIP_ERRORS, extract, read_part
from indexer.errors import ParseFailed, ParseSkipped
from indexer.types import Document, Unit

# Sections -----------------------------------------------------------------------------------------------------------
# The converter writes Markdown to keep structure. The text on the page has no asterisks, escapes or link targets, and
# a quotation of it must be found, so these are removed; so are the marks that link to a heading of the same page.

BEFORE_FIRST_HEADING = "(start)"
"""Name of the section before the first heading."""
_MAX_SECTION = 1200
"""Characters up to which a heading with everything below it stays one section: about one chunk."""

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_RULER = re.compile(r"^\s*\|?(?:\s*(?::?-{2,}:?|:-+:?)\s*\|)+\s*(?::?-{2,}:?|:-+:?)?\s*$")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)")
_LINK = re.compile(r"(?<!\\)\[((?:[^\[\]\\]|\\.)*)\]\((?:<[^>]*>|[^()\s]*(?:\([^()]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)")
_MARK = r"\[[\s\u200b]*(?:\\?[¶§#⚓🔗]+\ufe0f?|\u200b)[\s\u200b]*\]\(<?#[^()\s]*(?:\s+\"[^\"]*\")?\)"
_PERMALINK = re.compile(rf"[ \t]*{_MARK}(?=[ \t]*$)|{_MARK}[ \t]*")
"""A link within the page that shows only a mark: documentation has one beside each heading and definition."""
_BOLD = re.compile(r"(?<![\\*\w])(\*{1,3})(?=[^\s*])([^*\n]+?)(?<=[^\s*\\])\1(?![*\w])")
_COMMENT = re.compile(r"\[cmt:\d+\]|<!--.*?-->")
_BOLD_RUN = re.compile(r"(?<![\\*\w])\*\*(?=[^\s*])([^*\n]+? )\*\*(?![*\w])")
"""Bold text of a slide that ends in a space: not valid Markdown, but the converter writes it."""
_UNDERLINE = re.compile(r"\\?</?u\\?>")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_PADDED = re.compile(r" {2,}(?=\|)|(?<=\|) {2,}")


def plain_markdown(markdown: str) -> str:
    """Markdown as plain text: link texts without targets, no emphasis marks, escapes, comments and table rulers.

    Headings and list marks stay; fenced code is untouched.
    """
    lines, fence = [], ""
    for line in markdown.replace("\r\n", "\n").split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence:
            if "--" in line and _RULER.match(line):
                continue
            line = _plain_line(line)  # noqa: PLW2901  # the line as plain text
        lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _plain_line(line: str) -> str:
    # Each pattern costs microseconds a line, and most lines hold none of the marks.
    if "[" in line:
        line = _LINK.sub(r"\1", _IMAGE.sub(r"\1", _PERMALINK.sub("", line)))
    if "<u" in line:
        line = _UNDERLINE.sub("", line)
    if "<!--" in line or "[cmt:" in line:
        line = _COMMENT.sub("", line)
    if "*" in line:
        line = _BOLD_RUN.sub(r"\1", _BOLD.sub(r"\2", line))
    if "\\" in line:
        line = _ESCAPE.sub(r"\1", line)
    return _PADDED.sub(" ", line) if line.lstrip().startswith("|") else line


def sections(text: str) -> tuple[Unit, ...]:
    """Units of kind ``section`` covering all of ``text``, named by heading path, each with its heading line.

    A heading whose whole subtree is small is one unit; equal paths are numbered ``(2)``, ``(3)``.
    """
    lines = text.split("\n")
    headings = _headings(lines)
    starts = _starts(lines, headings)
    units: list[Unit] = []
    seen: dict[str, int] = {}
    for index, (line, path) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        body = "\n".join(lines[line:end]).strip("\n")
        if not body.strip():
            continue
        seen[path] = seen.get(path, 0) + 1
        name = path if seen[path] == 1 else f"{path} ({seen[path]})"
        units.append(Unit("section", name, body, "" if path == BEFORE_FIRST_HEADING else path))
    return tuple(units)


def _headings(lines: list[str]) -> list[tuple[int, int, str]]:
    """Line, level and words of each ATX heading outside fences."""
    headings, fence = [], ""
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (head := _HEADING.match(line)) and head[2]:
            headings.append((number, len(head[1]), " ".join(head[2].split())[:120]))
    return headings


def _starts(lines: list[str], headings: list[tuple[int, int, str]]) -> list[tuple[int, str]]:
    """First line and heading path of each section."""
    lengths = [0, *accumulate(len(line) + 1 for line in lines)]
    ends = _ends(headings, len(lines))
    starts: list[tuple[int, str]] = [(0, BEFORE_FIRST_HEADING)]
    stack: list[tuple[int, str]] = []
    skip = 0
    for index, (line, level, words) in enumerate(headings):
        while stack and stack[-1][0] >= level:
            stack.pop()
        stack.append((level, words))
        if line < skip:
            continue
        starts.append((line, " > ".join(word for _, word in stack)))
        end = ends[index]
        if lengths[end] - lengths[line] <= _MAX_SECTION:
            skip = end
    return starts


def _ends(headings: list[tuple[int, int, str]], last: int) -> list[int]:
    """For each heading the line of the next heading that is not deeper, where its section ends."""
    ends, open_heads = [last] * len(headings), list[int]()
    for index, (line, level, _) in enumerate(headings):
        while open_heads and headings[open_heads[-1]][1] >= level:
            ends[open_heads.pop()] = line
        open_heads.append(index)
    return ends


# HTML ---------------------------------------------------------------------------------------------------------------

HTML_PARSER = "html/1"
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_DECLARED = re.compile(r"(<meta[^>]+charset\s*=\s*[\"']?\s*)([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style|title|template)\b.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)", re.IGNORECASE | re.DOTALL)
_HTML_TAG = re.compile(r"<[^<>]*>")
_HTML_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def read_html(data: bytes, max_chars: int) -> Document:
    """A page's text by heading path; scripts, styles and hidden parts are left out.

    Raises:
        ParseFailed: The converter refuses the page.
    """
    page = _text(data)
    if not page.strip():
        return Document((), "markdown", HTML_PARSER)
    title, text = _title(page), _converted(page, max_chars)
    if title and title not in text:
        text = f"{title}\n\n{text}"
    return Document(sections(text), "markdown", HTML_PARSER, title)


def html_to_text(data: bytes, max_chars: int) -> str:
    """A page's text as plain Markdown, without its title; raises as ``read_html``."""
    page = _text(data)
    return _converted(page, max_chars) if page.strip() else ""


def _converted(page: str, max_chars: int) -> str:
    converted = extract(_DECLARED.sub(r"\1utf-8", page).encode("utf-8", "replace"), "html", max_chars)
    return plain_markdown(converted.text) or _without_tags(page)


def _text(data: bytes) -> str:
    """Decode a page: by byte order mark or as valid UTF-8, else as the page declares, else by a guess."""
    declared = _CHARSET.search(data[:4096])
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                return data.decode(declared[1].decode("ascii"), errors="replace")
            except LookupError:
                pass  # an unknown encoding: guess
    return decode(data)


def _without_tags(page: str) -> str:
    """The text between the tags, for malformed pages in which the converter finds nothing."""
    bare = _HTML_TAG.sub(" ", _HIDDEN.sub(" ", page))
    lines = (" ".join(line.split()) for line in unescape(bare).split("\n"))
    return "\n".join(line for line in lines if line)


def _title(page: str) -> str:
    found = _HTML_TITLE.search(page[:100_000])
    return " ".join(unescape(found[1]).split())[:200] if found else ""


# EPUB ---------------------------------------------------------------------------------------------------------------
# The chapters in the book's reading order, each converted as an HTML page. The converter's own EPUB reader loses whole
# chapters (measured: of two Debian manuals it returned style sheets and an index).

EPUB_PARSER = "epub/1"
_OPF_TAG = r"<(?:\w+:)?%s\b[^>]*>"
_ATTRIBUTE = re.compile(r"\b([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_OPF_TITLE = re.compile(r"<(?:\w+:)?title\b[^>]*>([^<]*)<")
_PAGES = ("xhtml", "html", "htm", "xml")
_BYTES = 4
"""Bytes of markup allowed per character of text, over the whole file."""


def read_epub(data: bytes, max_chars: int) -> Document:
    """A book's text by heading path, in reading order; chapters that it names and lacks are skipped.

    Raises:
        ParseSkipped: Its chapters are encrypted, or it exceeds the limit.
        ParseFailed: It is no EPUB that can be read, or names no chapters.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            remaining = max_chars * _BYTES
            package = _package(book)
            source = read_part(book, package, remaining)
            texts = []
            for name in _chapters(book, package, source):
                page = read_part(book, name, remaining)
                remaining -= len(page)
                texts.append(html_to_text(page, max_chars))
    except ZIP_ERRORS as error:
        raise ParseFailed(f"damaged or not what its name says: {str(error)[:200]}") from None
    title = _OPF_TITLE.search(source.decode("utf-8", "replace"))
    text = "\n\n".join(text for text in texts if text.strip())
    return Document(sections(text), "markdown", EPUB_PARSER, unescape(title[1]).strip()[:200] if title else "")


def _package(book: zipfile.ZipFile) -> str:
    """The part that lists the others; some writers leave out the container that names it."""
    names = book.namelist()
    if "META-INF/container.xml" in names:
        text = read_part(book, "META-INF/container.xml", 1 << 20).decode("utf-8", "replace")
        for tag in re.findall(_OPF_TAG % "rootfile", text):
            if (path := _attributes(tag).get("full-path")) in names:
                return path
    found = next((name for name in names if name.endswith(".opf")), "")
    if not found:
        raise ParseFailed("damaged: the book has no list of its parts")
    return found


def _chapters(book: zipfile.ZipFile, package: str, source: bytes) -> list[str]:
    """Names of the parts with text, in reading order."""
    text = source.decode("utf-8", "replace")
    items = [_attributes(tag) for tag in re.findall(_OPF_TAG % "item", text)]
    paths = {
        item["id"]: posixpath.normpath(
            posixpath.join(posixpath.dirname(package), unquote(unescape(item["href"]).partition("#")[0]))
        )
        for item in items
        if "id" in item and "href" in item
    }
    order = [paths.get(_attributes(tag).get("idref", ""), "") for tag in re.findall(_OPF_TAG % "itemref", text)]
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
