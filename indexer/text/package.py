"""A document that is a zip of parts: what opening one may raise, and one part within a limit."""

from __future__ import annotations

import zipfile
import zlib

from indexer.errors import ParseSkipped

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, KeyError)
"""What the zip library raises for a file that is cut off, damaged or lacks a part."""


def read_part(book: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of a part.

    Raises:
        ParseSkipped: There are more than ``most``, whatever the zip's directory says.
    """
    with book.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ParseSkipped(f"refused as unsafe or too large: its part {name} exceeds the limit")
    return data
