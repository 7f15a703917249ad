"""Heading paths: where each heading of a text stands and which headings it stands under."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.text.lines import line_starts

JOINT = " > "
"""What parts of a heading path are joined by."""
_WORDS = 120
"""Characters kept of one heading."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NOT_PARAGRAPH = re.compile(r" {0,3}(?:[>#|]|[-*+][ \t]|\d{1,9}[.)][ \t]|\t| {4})|[ \t]*$")
_ADORNED = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*$")
_ORG = re.compile(r"(\*+)[ \t]+(?:(?:TODO|DONE)[ \t]+)?(.*?)(?:[ \t]+:[\w@:]+:)?[ \t]*$")
_LATEX = re.compile(r"[ \t]*\\(part|chapter|section|subsection|subsubsection|paragraph)\*?(?:\[[^\]]*\])?\{(.+?)\}")
_LATEX_LEVELS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph")
_ASCIIDOC = re.compile(r"(={1,6})[ \t]+(.*?)(?:[ \t]+=+)?[ \t]*$")
_LISTING = re.compile(r"(-{4,}|\.{4,}|`{3,}|\+{4,}|/{4,})[ \t]*$")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a text under one heading.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last.
        heading: Heading path, parts joined by ``JOINT``; empty before the first heading.
    """

    start: int
    end: int
    heading: str


@dataclass(frozen=True, slots=True)
class _Head:
    line: int
    level: int
    words: str


def segments(text: str, syntax: str) -> tuple[Segment, ...]:
    """Cover ``text`` by stretches that begin at its headings; one stretch when the syntax has none."""
    find = {"markdown": _markdown, "rst": _rst, "org": _org, "latex": _latex, "asciidoc": _asciidoc}.get(syntax)
    if find is None:
        return (Segment(0, len(text), ""),)
    starts = line_starts(text)
    ends = [*starts[1:], len(text)]
    lines = [text[a:b].rstrip("\r\n") for a, b in zip(starts, ends, strict=True)]
    found, stack = [(0, "")], list[_Head]()
    for head in find(lines):
        while stack and stack[-1].level >= head.level:
            stack.pop()
        stack.append(head)
        found.append((starts[head.line], JOINT.join(h.words for h in stack)))
    bounds = [start for start, _ in found[1:]] + [len(text)]
    spans = zip(found, bounds, strict=True)
    return tuple(Segment(start, end, heading) for (start, heading), end in spans if end > start)


def _head(line: int, level: int, words: str) -> _Head:
    return _Head(line, level, " ".join(words.split())[:_WORDS])


def _markdown(lines: list[str]) -> Iterator[_Head]:
    """ATX and Setext headings outside fences and front matter."""
    fence, first = "", _front_matter(lines)
    for number in range(first, len(lines)):
        line = lines[number]
        mark = _FENCE.match(line)
        if mark and (not fence or (mark[1].startswith(fence) and not mark[2].strip())):
            fence = "" if fence else mark[1]
        elif fence:
            continue
        elif (atx := _ATX.match(line)) and atx[2]:
            yield _head(number, len(atx[1]), atx[2])
        elif number > first and (under := _SETEXT.match(line)) and _one_paragraph_line(lines, number - 1, first):
            yield _head(number - 1, 1 if under[1][0] == "=" else 2, lines[number - 1])


def _one_paragraph_line(lines: list[str], number: int, first: int) -> bool:
    """Whether the line is text by itself: a rule below a longer paragraph or a table is no heading."""
    if _NOT_PARAGRAPH.match(lines[number]) or _SETEXT.match(lines[number]) or "|" in lines[number]:
        return False
    return number == first or not lines[number - 1].strip() or bool(_ATX.match(lines[number - 1]))


def _front_matter(lines: list[str]) -> int:
    """Number of lines of a YAML block at the very top."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    return next((n + 1 for n, line in enumerate(lines[1:200], 1) if line.rstrip() in ("---", "...")), 0)


def _rst(lines: list[str]) -> Iterator[_Head]:
    """Titles with underlines, perhaps overlines; levels in the order in which the adornments appear."""
    levels: list[tuple[str, bool]] = []
    for number in range(1, len(lines)):
        words, under = lines[number - 1], _ADORNED.match(lines[number])
        if not under or not words.strip() or (words[0] in " \t" and number < 2):
            continue
        over = number > 1 and lines[number - 2].rstrip() == lines[number].rstrip()
        if _ADORNED.match(words) or (words[0] in " \t" and not over):
            continue
        if len(lines[number].rstrip()) < len(words.strip()) or not (over or _blank_above(lines, number - 1)):
            continue
        style = (under[1], over)
        if style not in levels:
            levels.append(style)
        yield _head(number - 2 if over else number - 1, levels.index(style) + 1, words)


def _blank_above(lines: list[str], number: int) -> bool:
    return number == 0 or not lines[number - 1].strip()


def _org(lines: list[str]) -> Iterator[_Head]:
    for number, line in enumerate(lines):
        if (match := _ORG.match(line)) and match[2]:
            yield _head(number, len(match[1]), match[2])


def _latex(lines: list[str]) -> Iterator[_Head]:
    for number, line in enumerate(lines):
        if match := _LATEX.match(line):
            yield _head(number, _LATEX_LEVELS.index(match[1]), match[2])


def _asciidoc(lines: list[str]) -> Iterator[_Head]:
    block = ""
    for number, line in enumerate(lines):
        mark = _LISTING.match(line)
        if mark and (not block or line.rstrip() == block):
            block = "" if block else line.rstrip()
        elif not block and (match := _ASCIIDOC.match(line)) and match[2]:
            yield _head(number, len(match[1]), match[2])
