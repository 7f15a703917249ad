"""Plain text, source code, markup, tables of text: decoded only, so that line numbers are the file's; notebooks."""

from __future__ import annotations

import json
from pathlib import PurePath

from indexer.documents.encoding import decode
from indexer.documents.formats import HEAD, Format, holds_nul
from indexer.errors import ParseFailed, ParseSkipped
from indexer.types import Document, Unit

PLAIN_PARSER = "plain/1"


def read_plain(path: str, data: bytes, kind: Format) -> Document:
    """The unchanged text of a file, as one unit.

    A CSV file is one sheet named after the file, whose rows are the file's lines, so that a row number is also the
    line number an editor shows.

    Raises:
        ParseSkipped: The bytes are not text.
    """
    if holds_nul(data[:HEAD]):
        raise ParseSkipped("binary file")
    text = decode(data)
    if not text.strip():
        return Document((), kind.syntax, PLAIN_PARSER)
    if kind.family == "table":
        return Document((Unit("sheet", PurePath(path).stem, text),), kind.syntax, PLAIN_PARSER)
    return Document((Unit("lines", "", text),), kind.syntax, PLAIN_PARSER)


# Notebook -----------------------------------------------------------------------------------------------------------
# Jupyter notebooks: one unit per cell, its source and its text outputs.

NOTEBOOK_PARSER = "notebook/1"
_OUTPUT = 10_000
"""Characters of output kept per cell: enough for a table, not for a training log."""


def read_notebook(data: bytes) -> Document:
    """Cells of a notebook of format 3 or 4, numbered from 1; empty cells are counted.

    Raises:
        ParseFailed: The file is not JSON or not a notebook.
    """
    try:
        book = json.loads(decode(data) or "{}")
    except (ValueError, RecursionError) as error:
        raise ParseFailed(f"not a readable notebook: {error}") from None
    if not isinstance(book, dict):
        raise ParseFailed("not a notebook: its JSON is not an object")
    sheets = book.get("worksheets") or [book]
    cells = [c for sheet in sheets if isinstance(sheet, dict) for c in sheet.get("cells") or [] if isinstance(c, dict)]
    texts = ((number, _cell(cell)) for number, cell in enumerate(cells, 1))
    units = tuple(Unit("cell", str(number), text) for number, text in texts if text.strip())
    return Document(units, "markdown", NOTEBOOK_PARSER, _title(units))


def _cell(cell: dict[str, object]) -> str:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell.get("cell_type") != "code":
        level = cell.get("level")
        return f"{'#' * level} {source}" if cell.get("cell_type") == "heading" and isinstance(level, int) else source
    outputs = cell.get("outputs")
    shown = [_output(o) for o in outputs if isinstance(o, dict)] if isinstance(outputs, list) else []
    return "\n\n".join(part for part in [source, "\n".join(shown).strip()[:_OUTPUT]] if part.strip())


def _output(output: dict[str, object]) -> str:
    """Text of one output: streams and plain results; pictures, HTML and tracebacks are left out."""
    data = output.get("data")
    plain = data.get("text/plain", "") if isinstance(data, dict) else output.get("text", "")
    return _joined(plain)


def _joined(lines: object) -> str:
    """Text of a notebook, which is a string or a list of lines with their line ends."""
    return "".join(str(line) for line in lines) if isinstance(lines, list) else str(lines or "")


def _title(units: tuple[Unit, ...]) -> str:
    """The first Markdown heading, if the first cell begins with one."""
    first = units[0].text.split("\n", 1)[0] if units else ""
    return first[2:].strip() if first.startswith("# ") else ""
