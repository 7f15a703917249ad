"""Boundaries of source code: a stretch a function or method, headed by its class and name; eight languages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from indexer.text.headings import JOINT, Segment
from indexer.text.indent import indented_marks

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

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
    """Cover source code by stretches: each definition with the comments above it, and what lies between.

    Classes, namespaces and ``impl`` blocks are entered; functions are not. A file that does not parse still gives
    stretches: the grammar recovers from errors.
    """
    data = text.encode("utf-8")
    tree = _parser(language).parse(data)
    if language == "python" and tree.root_node.has_error:
        marks = [(0, ""), *indented_marks(text, JOINT)]
    else:
        found_bytes = [(0, ""), *_marks(tree.root_node, "", data)]
        offsets = _characters(text, data, [byte for byte, _ in found_bytes])
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
    from tree_sitter import Language, Parser  # noqa: PLC0415  # loaded with the first source file

    return Parser(Language(grammar(language)))


def _marks(node: Node, path: str, data: bytes) -> Iterator[tuple[int, str]]:
    """Byte offset and heading path of each place where a stretch begins, in order."""
    lead: int | None = None
    for child in node.named_children:
        if "comment" in child.type or child.type in ("attribute_item", "decorator"):
            lead = child.start_byte if lead is None else lead
            continue
        inner = _unwrapped(child)
        name = _name(inner, data) if inner is not None else ""
        if inner is None or not name:
            lead = None
            continue
        own = f"{path}{JOINT}{name}" if path else name
        yield _line_start(data, child.start_byte if lead is None else lead), own
        if inner.type in _CONTAINERS and (body := inner.child_by_field_name("body")) is not None:
            yield from _marks(body, own, data)
        yield _after_line(data, child.end_byte), path
        lead = None


def _unwrapped(node: Node) -> Node | None:
    """The definition that a node is or wraps (decorators, ``export``, ``template``, ``const f = () =>``)."""
    if node.type in _LEAVES or node.type in _CONTAINERS:
        return node
    if node.type in _WRAPPERS:
        return next((found for child in node.named_children if (found := _unwrapped(child)) is not None), None)
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


def _characters(text: str, data: bytes, offsets: list[int]) -> list[int]:
    """Character offsets of ascending-or-not byte offsets into the UTF-8 form."""
    if len(text) == len(data):
        return offsets
    order = sorted(set(offsets))
    counts, at, last = [], 0, 0
    for byte in order:
        at += len(data[last:byte].decode("utf-8", "ignore"))
        last = byte
        counts.append(at)
    return [counts[bisect_left(order, byte)] for byte in offsets]
