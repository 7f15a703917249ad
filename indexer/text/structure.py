"""Structure of a text: sections by heading, definitions of source code, line numbers, table headers."""

from __future__ import annotations

import csv
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser


JOINT = " > "
"""Joins the parts of a heading path."""
_MAX_HEADING = 120
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
    """A part of a text under one heading.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last.
        heading: Heading path, parts joined by ``JOINT``; empty before the first heading.
    """

    start: int
    end: int
    heading: str


@dataclass(frozen=True, slots=True)
class _Heading:
    line: int
    level: int
    words: str


def segments(text: str, syntax: str) -> tuple[Segment, ...]:
    """Divide ``text`` at its headings; one segment when the syntax has none."""
    find = {"markdown": _markdown, "rst": _rst, "org": _org, "latex": _latex, "asciidoc": _asciidoc}.get(syntax)
    if find is None:
        return (Segment(0, len(text), ""),)
    starts = line_starts(text)
    ends = [*starts[1:], len(text)]
    lines = [text[a:b].rstrip("\r\n") for a, b in zip(starts, ends, strict=True)]
    found, stack = [(0, "")], list[_Heading]()
    for head in find(lines):
        while stack and stack[-1].level >= head.level:
            stack.pop()
        stack.append(head)
        found.append((starts[head.line], JOINT.join(h.words for h in stack)))
    bounds = [start for start, _ in found[1:]] + [len(text)]
    spans = zip(found, bounds, strict=True)
    return tuple(Segment(start, end, heading) for (start, heading), end in spans if end > start)


def _heading(line: int, level: int, words: str) -> _Heading:
    return _Heading(line, level, " ".join(words.split())[:_MAX_HEADING])


def _markdown(lines: list[str]) -> Iterator[_Heading]:
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
            yield _heading(number, len(atx[1]), atx[2])
        elif number > first and (under := _SETEXT.match(line)) and _one_paragraph_line(lines, number - 1, first):
            yield _heading(number - 1, 1 if under[1][0] == "=" else 2, lines[number - 1])


def _one_paragraph_line(lines: list[str], number: int, first: int) -> bool:
    """Whether the line is a paragraph of its own: a rule below a longer paragraph or a table is no heading."""
    if _NOT_PARAGRAPH.match(lines[number]) or _SETEXT.match(lines[number]) or "|" in lines[number]:
        return False
    return number == first or not lines[number - 1].strip() or bool(_ATX.match(lines[number - 1]))


def _front_matter(lines: list[str]) -> int:
    """Number of lines of a YAML block at the very top."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    return next((n + 1 for n, line in enumerate(lines[1:200], 1) if line.rstrip() in ("---", "...")), 0)


def _rst(lines: list[str]) -> Iterator[_Heading]:
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
        yield _heading(number - 2 if over else number - 1, levels.index(style) + 1, words)


def _blank_above(lines: list[str], number: int) -> bool:
    return number == 0 or not lines[number - 1].strip()


def _org(lines: list[str]) -> Iterator[_Heading]:
    for number, line in enumerate(lines):
        if (match := _ORG.match(line)) and match[2]:
            yield _heading(number, len(match[1]), match[2])


def _latex(lines: list[str]) -> Iterator[_Heading]:
    for number, line in enumerate(lines):
        if match := _LATEX.match(line):
            yield _heading(number, _LATEX_LEVELS.index(match[1]), match[2])


def _asciidoc(lines: list[str]) -> Iterator[_Heading]:
    block = ""
    for number, line in enumerate(lines):
        mark = _LISTING.match(line)
        if mark and (not block or line.rstrip() == block):
            block = "" if block else line.rstrip()
        elif not block and (match := _ASCIIDOC.match(line)) and match[2]:
            yield _heading(number, len(match[1]), match[2])


# Source code --------------------------------------------------------------------------------------------------------
# A segment per function or method, headed by its class and name; eight languages.

_GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
LANGUAGES = frozenset(_GRAMMARS)
"""Values of ``Document.syntax`` that have a grammar here."""

_LEAVES = frozenset({
    "function_definition", "function_declaration", "generator_function_declaration", "method_definition",
    "method_declaration", "constructor_declaration", "function_item", "macro_definition", "struct_item", "enum_item",
    "union_item", "type_declaration", "interface_declaration", "enum_declaration", "type_alias_declaration",
    "enum_specifier", "function_signature", "annotation_type_declaration",
})  # fmt: skip
_CONTAINERS = frozenset({
    "class_definition", "class_declaration", "abstract_class_declaration", "class_specifier", "struct_specifier",
    "impl_item", "trait_item", "mod_item", "namespace_definition", "internal_module", "module", "record_declaration",
    "class",
})  # fmt: skip
_WRAPPERS = frozenset({"decorated_definition", "export_statement", "template_declaration", "ambient_declaration"})
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "function", "generator_function"})
_NAMES = frozenset({
    "identifier", "field_identifier", "type_identifier", "qualified_identifier", "destructor_name", "operator_name",
})  # fmt: skip


def code_segments(text: str, language: str) -> tuple[Segment, ...]:
    """Divide source code into definitions, each with the comments above it, and the text between them.

    Classes, namespaces and ``impl`` blocks are divided further; functions are not. A file that does not parse is
    divided too: the grammar recovers from errors.
    """
    data = text.encode("utf-8")
    tree = _parser(language).parse(data)
    if language == "python" and tree.root_node.has_error:
        marks = [(0, ""), *indented_marks(text, JOINT)]
    else:
        found_bytes = [(0, ""), *_code_marks(tree.root_node, "", data)]
        offsets = _to_character_offsets(text, data, [byte for byte, _ in found_bytes])
        marks = [(offset, heading) for offset, (_, heading) in zip(offsets, found_bytes, strict=True)]
    found: list[tuple[int, str]] = []
    for offset, heading in marks:
        if found and found[-1][0] >= offset:
            found[-1] = (found[-1][0], heading)
        else:
            found.append((offset, heading))
    ends = [start for start, _ in found[1:]] + [len(text)]
    return tuple(Segment(a, b, heading) for (a, heading), b in zip(found, ends, strict=True) if b > a)


@lru_cache(maxsize=16)
def grammar(language: str) -> object:
    """The grammar capsule of a language of ``LANGUAGES``, loaded on first use."""
    module, name = _GRAMMARS[language]
    capsule: object = getattr(import_module(module), name)()
    return capsule


def _parser(language: str) -> Parser:
    from tree_sitter import Language, Parser  # noqa: PLC0415  # only for source code

    return Parser(Language(grammar(language)))


def _code_marks(node: Node, path: str, data: bytes) -> Iterator[tuple[int, str]]:
    """Byte offset and heading path of the start of each segment, in order."""
    lead: int | None = None
    for child in node.named_children:
        if "comment" in child.type or child.type in ("attribute_item", "decorator"):
            lead = child.start_byte if lead is None else lead
            continue
        inner = _definition_in(child)
        name = _name(inner, data) if inner is not None else ""
        if inner is None or not name:
            lead = None
            continue
        own = f"{path}{JOINT}{name}" if path else name
        yield _line_start(data, child.start_byte if lead is None else lead), own
        if inner.type in _CONTAINERS and (body := inner.child_by_field_name("body")) is not None:
            yield from _code_marks(body, own, data)
        yield _after_line(data, child.end_byte), path
        lead = None


def _definition_in(node: Node) -> Node | None:
    """The definition that a node is or wraps (decorators, ``export``, ``template``, ``const f = () =>``)."""
    if node.type in _LEAVES or node.type in _CONTAINERS:
        return node
    if node.type in _WRAPPERS:
        return next((found for child in node.named_children if (found := _definition_in(child)) is not None), None)
    if node.type in ("lexical_declaration", "variable_declaration"):
        for child in node.named_children:
            value = child.child_by_field_name("value")
            if value is not None and value.type in _FUNCTIONS:
                return child
    return None


def _name(node: Node, data: bytes) -> str:
    """Name of a definition: its name field, the type of an ``impl``, or the innermost declarator of C."""
    found = node.child_by_field_name("name") or node.child_by_field_name(
        "type" if node.type == "impl_item" else "name"
    )
    if node.type == "type_declaration":
        spec = next((child for child in node.named_children if child.type == "type_spec"), None)
        found = spec.child_by_field_name("name") if spec is not None else None
    inner = node.child_by_field_name("declarator") if found is None else None
    while inner is not None and inner.type not in _NAMES:
        inner = inner.child_by_field_name("declarator") or next(iter(inner.named_children), None)
    found = found or inner
    return " ".join(data[found.start_byte : found.end_byte].decode("utf-8").split())[:120] if found is not None else ""


def _line_start(data: bytes, byte: int) -> int:
    """Start of the line if only blanks stand before ``byte`` on it, else ``byte``."""
    start = data.rfind(b"\n", 0, byte) + 1
    return byte if data[start:byte].strip() else start


def _after_line(data: bytes, byte: int) -> int:
    """Start of the next line if only blanks or a semicolon follow on this one, else ``byte``."""
    end = data.find(b"\n", byte)
    if end < 0:
        return len(data) if not data[byte:].strip() else byte
    return byte if data[byte:end].strip(b" \t\r;,") else end + 1


def _to_character_offsets(text: str, data: bytes, offsets: list[int]) -> list[int]:
    """Character offsets of byte offsets into the UTF-8 form, in any order."""
    if len(text) == len(data):
        return offsets
    order = sorted(set(offsets))
    counts, at, last = [], 0, 0
    for byte in order:
        at += len(data[last:byte].decode("utf-8", "ignore"))
        last = byte
        counts.append(at)
    return [counts[bisect_left(order, byte)] for byte in offsets]


# Indentation --------------------------------------------------------------------------------------------------------
# Python definitions by indentation, for source that does not parse: a file saved in the middle of an edit.
#
# After an open bracket a grammar may lose every class, and with it the heading of every method; the beginning of a
# line does not depend on the lines before it.

_DEFINITION = re.compile(r"([ \t]*)(?:async[ \t]+)?(class|def)[ \t]+(\w+)")
_COMMENT_OR_DECORATOR = re.compile(r"[ \t]*[@#]")
_QUOTES = re.compile(r"\"\"\"|'''")


def indented_marks(text: str, joint: str) -> Iterator[tuple[int, str]]:
    """Offset and heading path of the start of each segment: a class, an outermost function, the end of either."""
    stack: list[tuple[int, str, str]] = []
    at, lead, quote = 0, -1, ""
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        inside = bool(quote)
        for mark in _QUOTES.findall(line):
            quote = mark if not quote else "" if mark == quote else quote
        if inside or not line.strip():
            continue
        if _COMMENT_OR_DECORATOR.match(line):
            lead = start if lead < 0 else lead
            continue
        begin, lead = (start if lead < 0 else lead), -1
        depth = len(line) - len(line.lstrip())
        ended = False
        while stack and stack[-1][0] >= depth and not line.lstrip().startswith((")", "]", "}")):
            stack.pop()
            ended = True
        match = _DEFINITION.match(line)
        if match and not any(kind == "def" for _, kind, _ in stack):
            stack.append((depth, match[2], match[3]))
            yield begin, joint.join(name for _, _, name in stack)
        elif ended and not any(kind == "def" for _, kind, _ in stack):
            yield begin, joint.join(name for _, _, name in stack)


# Line numbers -------------------------------------------------------------------------------------------------------
# Lines of a text, counted as ``grep -n`` and editors do: a line ends at ``\n`` (its ``\r`` belongs to it).

_END = re.compile("\n")


def line_starts(text: str) -> list[int]:
    """Offset of the first character of each line, ascending, the first 0; an empty last line has none."""
    starts = [0, *(match.end() for match in _END.finditer(text))]
    return starts[:-1] if len(starts) > 1 and starts[-1] == len(text) else starts


def line_of(starts: Sequence[int], offset: int) -> int:
    """Number (from 1) of the line that holds the character at ``offset``."""
    return bisect_right(starts, offset)


def line_span(text: str, start: int, end: int) -> str:
    """Lines ``start`` to ``end`` (1-based, inclusive) with their line ends; beyond the text, what there is.

    ``start`` 0 means the whole text, as in a ``Locator``.
    """
    if start <= 0:
        return text
    starts = line_starts(text)
    if start > len(starts):
        return ""
    stop = starts[end] if end < len(starts) else len(text)
    return text[starts[start - 1] : stop]


# Table headers ------------------------------------------------------------------------------------------------------
# The header row of a table of text becomes the heading of every chunk of its rows.

_HEADER_ROWS = 10
"""Rows with text among which the header is searched: titles may come before it."""
_MAX_HEADER = 300
"""Characters of header kept as heading."""
_NUMBER = re.compile(r"[\s$€£¥%(-]*[\d.,:/-]+[\s%)kKMG]*")


def header_of(text: str) -> tuple[str, int]:
    """The header's cells joined by `` | ``, and the offset of the first row below it.

    The header is the first row with at least two cells, most of them filled and none a number. Empty when there is
    none.
    """
    at, seen = 0, 0
    while seen < _HEADER_ROWS and at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        cells = _cells(text[at:end])
        filled = [cell for cell in cells if cell]
        if len(filled) >= 2:
            names = not any(_NUMBER.fullmatch(cell) for cell in filled) and len(filled) * 2 >= len(cells)
            return (" | ".join(filled)[:_MAX_HEADER], end) if names else ("", 0)
        at, seen = end, seen + bool(filled)
    return "", 0


def _cells(row: str) -> list[str]:
    """Cells of one row, separated by whichever of tab, semicolon, bar or comma occurs most."""
    row = row.strip("\r\n")
    mark = max("\t;|,", key=row.count)
    try:
        cells = next(csv.reader([row], delimiter=mark), [])
    except csv.Error:
        cells = row.split(mark)
    return [" ".join(cell.split()) for cell in cells]
