"""The text of an indexed file at a locator: only indexed files, only through the parsers, never more than asked."""

from __future__ import annotations

import os

from indexer.documents.pool import Parsers
from indexer.errors import ParseFailed, QueryError, SpelledAlike
from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.types import Document, File, FileRow, Locator, Reading, Unit, is_other_file

UNITS_SHOWN = 50
"""Units listed with a reading, at most."""


async def read_document(
    path: str, locator: str | None, *, max_chars: int, manifest: Manifest, folders: Folders, parsers: Parsers
) -> Reading:
    """Read ``path`` at ``locator``, or from its beginning.

    Raises:
        QueryError: The path is not an indexed file, cannot be read now, or has no such locator.
    """
    row = _indexed_file(path, manifest, folders)
    wanted = Locator.parse(locator) if locator else None
    try:
        parsed = await parsers.parse(File(row.path, row.folder, row.size, row.mtime_ns))
    except (ParseFailed, OSError) as error:
        raise QueryError(f"{row.path} cannot be read now: {error}") from None
    unit = _find_unit(parsed.document, wanted, row.path)
    stale = (parsed.size, parsed.mtime_ns) != (row.size, row.mtime_ns) or is_other_file(parsed.inode, row.inode)
    return _reading(row.path, parsed.document, unit, wanted, max_chars, stale=stale)


def _indexed_file(path: str, manifest: Manifest, folders: Folders) -> FileRow:
    """The row of a path; relative paths are taken below each folder."""
    expanded = os.path.expanduser(path)
    candidates = [expanded]
    if not os.path.isabs(expanded):
        candidates = [os.path.join(folder.path, expanded) for folder in folders]
    for candidate in candidates:
        normal = os.path.normpath(candidate)
        row = manifest.find(normal) or manifest.find_ignoring_unicode_form(normal)
        if row is None:
            continue
        if row.outcome != "indexed":
            raise QueryError(f"{row.path} was not indexed: {row.reason}")
        return row
    alike = [row.path for each in candidates for row in manifest.all_ignoring_unicode_form(os.path.normpath(each))]
    if len(alike) > 1:
        raise SpelledAlike(path, alike)
    raise QueryError(f"{path} is not an indexed file; give a path exactly as search returned it")


def _find_unit(document: Document, locator: Locator | None, path: str) -> Unit:
    if not document.units:
        raise QueryError(f"{path} holds no text")
    if locator is None:
        return document.units[0]
    kind = document.units[0].kind
    for unit in document.units:
        if unit.kind == locator.kind and unit.name == locator.unit:
            return unit
    some = ", ".join(str(Locator(unit.kind, unit.name)) for unit in document.units[:3])
    what = "a text file: use lines A-B" if kind == "lines" else f"made of {len(document.units)} places such as {some}"
    raise QueryError(f"{path} has no {locator}; it is {what}")


def _reading(
    path: str, document: Document, unit: Unit, locator: Locator | None, max_chars: int, *, stale: bool
) -> Reading:
    """Whole lines of a unit, as many as fit; of a first line that is longer, its beginning."""
    lines = [line.removesuffix("\r") for line in unit.text.removesuffix("\n").split("\n")]
    first = locator.start if locator and locator.start else 1
    last = min(locator.end, len(lines)) if locator and locator.end else len(lines)
    if first > max(1, len(lines)):
        raise QueryError(f"{path} has {len(lines)} lines there; line {first} is past its end")
    shown: list[str] = []
    left = max_chars
    for line in lines[first - 1 : last]:
        if len(line) + 1 > left:
            if not shown:
                shown.append(line[:left])
            break
        shown.append(line)
        left -= len(line) + 1
    end = first + max(0, len(shown) - 1)
    truncated = end < last
    return Reading(
        path=path,
        locator=str(Locator(unit.kind, unit.name, first, end)),
        text="\n".join(shown),
        first_line=first,
        units=tuple(str(Locator(u.kind, u.name)) for u in document.units[:UNITS_SHOWN] if u.kind != "lines"),
        total_lines=len(lines),
        truncated=truncated,
        next=_next_locator(document, unit, end, len(lines)),
        stale=stale,
    )


def _next_locator(document: Document, unit: Unit, end: int, total: int) -> str:
    """Where to read on: the next 200 lines of the unit, else the next unit; empty at the end."""
    if end < total:
        return str(Locator(unit.kind, unit.name, end + 1, min(total, end + 200)))
    at = document.units.index(unit)
    if at + 1 < len(document.units):
        following = document.units[at + 1]
        return str(Locator(following.kind, following.name))
    return ""
