"""Where the used rows of a workbook's sheets begin, so that row numbers are the ones the spreadsheet shows.

The converter gives rows from the first used one on and does not say which that was.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from html import unescape

_SHEET = re.compile(r"<(?:\w+:)?sheet\b[^>]*?\bname=\"([^\"]*)\"[^>]*?\b(?:\w+:)?id=\"([^\"]*)\"")
_RELATION = re.compile(r"<Relationship\b[^>]*>")
_ATTRIBUTE = re.compile(r"\b(Id|Target)=\"([^\"]*)\"")
_VALUE = re.compile(r"<(?:\w+:)?(?:v|is)\b")
_ROW = re.compile(r"<(?:\w+:)?row\b[^>]*?\br=\"(\d+)\"")
_READ = 1 << 20
"""Bytes of a part that are looked at: the first used row is near the start of its sheet."""


def first_rows(data: bytes) -> dict[str, int]:
    """Sheet name -> number (from 1) of its first row with a value; empty when the file does not tell."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            relations = _relations(_part(book, "xl/_rels/workbook.xml.rels"))
            found = {}
            for name, relation in _SHEET.findall(_part(book, "xl/workbook.xml")):
                target = relations.get(relation, "")
                path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                found[unescape(name)] = _first_row(_part(book, path)) if target else 1
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
        return {}


def _part(book: zipfile.ZipFile, name: str) -> str:
    """The beginning of a part as text, empty when it does not exist."""
    try:
        with book.open(name) as stream:
            return stream.read(_READ).decode("utf-8", "replace")
    except KeyError:
        return ""


def _relations(text: str) -> dict[str, str]:
    """Relation id -> target."""
    found = (dict(_ATTRIBUTE.findall(tag)) for tag in _RELATION.findall(text))
    return {r["Id"]: r["Target"] for r in found if "Id" in r and "Target" in r}


def _first_row(text: str) -> int:
    value = _VALUE.search(text)
    rows = _ROW.findall(text, 0, value.start()) if value else []
    return int(rows[-1]) if rows else 1
