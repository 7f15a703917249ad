"""Converted Markdown as reading text, and its split into sections by heading.

Converters write Markdown so that structure survives; what a person reads on the page has no asterisks, escapes or
link targets, and a quote must be found as it reads. The marks that a page shows to link to its own places are no text.
"""

from __future__ import annotations

import re
from itertools import accumulate

from indexer.types import Unit

START = "(start)"
"""Name of what stands before the first heading."""
_WHOLE = 1200
"""Characters: a heading with all that stands below it stays one section up to this size, about one chunk."""

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_RULER = re.compile(r"^\s*\|?(?:\s*(?::?-{2,}:?|:-+:?)\s*\|)+\s*(?::?-{2,}:?|:-+:?)?\s*$")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)")
_LINK = re.compile(r"(?<!\\)\[((?:[^\[\]\\]|\\.)*)\]\((?:<[^>]*>|[^()\s]*(?:\([^()]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)")
_MARK = r"\[[\s\u200b]*(?:\\?[¶§#⚓🔗]+\ufe0f?|\u200b)[\s\u200b]*\]\(<?#[^()\s]*(?:\s+\"[^\"]*\")?\)"
_PERMALINK = re.compile(rf"[ \t]*{_MARK}(?=[ \t]*$)|{_MARK}[ \t]*")
"""A link to its own place that shows nothing but a mark: documentation puts one beside each heading and definition."""
_BOLD = re.compile(r"(?<![\\*\w])(\*{1,3})(?=[^\s*])([^*\n]+?)(?<=[^\s*\\])\1(?![*\w])")
_COMMENT = re.compile(r"\[cmt:\d+\]|<!--.*?-->")
_BOLD_RUN = re.compile(r"(?<![\\*\w])\*\*(?=[^\s*])([^*\n]+? )\*\*(?![*\w])")
"""A bold run of a slide that ends in a space: no Markdown, but the converter writes it."""
_UNDERLINE = re.compile(r"\\?</?u\\?>")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_PADDED = re.compile(r" {2,}(?=\|)|(?<=\|) {2,}")


def readable(markdown: str) -> str:
    """Markdown as it reads: link texts without targets, no emphasis marks, escapes, comments and table rulers.

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
            line = _plain(line)  # noqa: PLW2901  # the line as it reads
        lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _plain(line: str) -> str:
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
    heads = _heads(lines)
    starts = _starts(lines, heads)
    units: list[Unit] = []
    seen: dict[str, int] = {}
    for index, (line, path) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        body = "\n".join(lines[line:end]).strip("\n")
        if not body.strip():
            continue
        seen[path] = seen.get(path, 0) + 1
        name = path if seen[path] == 1 else f"{path} ({seen[path]})"
        units.append(Unit("section", name, body, "" if path == START else path))
    return tuple(units)


def _heads(lines: list[str]) -> list[tuple[int, int, str]]:
    """Line, level and words of each ATX heading outside fences."""
    heads, fence = [], ""
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (head := _HEADING.match(line)) and head[2]:
            heads.append((number, len(head[1]), " ".join(head[2].split())[:120]))
    return heads


def _starts(lines: list[str], heads: list[tuple[int, int, str]]) -> list[tuple[int, str]]:
    """First line and heading path of each section."""
    lengths = [0, *accumulate(len(line) + 1 for line in lines)]
    ends = _ends(heads, len(lines))
    starts: list[tuple[int, str]] = [(0, START)]
    stack: list[tuple[int, str]] = []
    skip = 0
    for index, (line, level, words) in enumerate(heads):
        while stack and stack[-1][0] >= level:
            stack.pop()
        stack.append((level, words))
        if line < skip:
            continue
        starts.append((line, " > ".join(word for _, word in stack)))
        end = ends[index]
        if lengths[end] - lengths[line] <= _WHOLE:
            skip = end
    return starts


def _ends(heads: list[tuple[int, int, str]], last: int) -> list[int]:
    """For each heading the line where what stands below it ends: the next heading that is not deeper."""
    ends, open_heads = [last] * len(heads), list[int]()
    for index, (line, level, _) in enumerate(heads):
        while open_heads and heads[open_heads[-1]][1] >= level:
            ends[open_heads.pop()] = line
        open_heads.append(index)
    return ends
