"""The header row of a table of text, so that every chunk of rows is headed by what its columns mean."""

from __future__ import annotations

import csv
import re

_LOOK = 10
"""Rows with text in which a header is looked for: above it stand titles."""
_CHARACTERS = 300
"""Characters of header kept as heading."""
_NUMBER = re.compile(r"[\s$€£¥%(-]*[\d.,:/-]+[\s%)kKMG]*")


def header_of(text: str) -> tuple[str, int]:
    """The header's cells joined by `` | ``, and the offset of the first row below it.

    The header is the first row with at least two cells, most of them filled and none a number. Empty when there is
    none: then the rows speak for themselves.
    """
    at, seen = 0, 0
    while seen < _LOOK and at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        cells = _cells(text[at:end])
        filled = [cell for cell in cells if cell]
        if len(filled) >= 2:
            names = not any(_NUMBER.fullmatch(cell) for cell in filled) and len(filled) * 2 >= len(cells)
            return (" | ".join(filled)[:_CHARACTERS], end) if names else ("", 0)
        at, seen = end, seen + bool(filled)
    return "", 0


def _cells(row: str) -> list[str]:
    """Cells of one row, apart by whichever of tab, semicolon, bar or comma splits it most."""
    row = row.strip("\r\n")
    mark = max("\t;|,", key=row.count)
    try:
        cells = next(csv.reader([row], delimiter=mark), [])
    except csv.Error:
        cells = row.split(mark)
    return [" ".join(cell.split()) for cell in cells]
