"""Plain text, source code, markup and tables of text: decoding only, so that every line number is the file's own."""

from __future__ import annotations

from pathlib import PurePath

from indexer.errors import ParseSkipped
from indexer.text.encoding import decode
from indexer.text.formats import HEAD, Format, holds_nul
from indexer.types import Document, Unit

PARSER = "plain/1"


def read_plain(path: str, data: bytes, kind: Format) -> Document:
    """The text of a file exactly as it stands, as one unit.

    A CSV file is one sheet named after the file, whose rows are the file's lines, so that a row number is also the
    line number an editor shows.

    Raises:
        ParseSkipped: The bytes are not text.
    """
    if holds_nul(data[:HEAD]):
        raise ParseSkipped("binary file")
    text = decode(data)
    if not text.strip():
        return Document((), kind.syntax, PARSER)
    if kind.family == "table":
        return Document((Unit("sheet", PurePath(path).stem, text),), kind.syntax, PARSER)
    return Document((Unit("lines", "", text),), kind.syntax, PARSER)
