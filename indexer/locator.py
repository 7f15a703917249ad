"""Where in a file a text stands, in one form for search, read and citation.

    lines 12-40                     text, Markdown, source code
    page 3                          PDF
    slide 2                         presentations
    sheet "Budget" rows 2-40        spreadsheets, CSV
    section "Intro > Setup"         HTML, DOCX, EPUB: the heading path
    part 2                          mail parts, mailbox messages
    cell 4                          notebook cells

A place inside a unit longer than one chunk carries its lines: ``page 3 lines 10-25`` counts the lines of the
page's text as ``read`` shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from indexer.errors import QueryError

UnitKind = Literal["lines", "page", "slide", "sheet", "section", "part", "cell"]

_QUOTED = {"sheet", "section"}
_FORM = re.compile(
    r"""^\s*(?:(?P<kind>page|p\.?|slide|sheet|section|part|cell|lines?|l)\s*)?
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<number>L?\d+(?:\s*[-\u2013:]\s*L?\d+)?))?
        (?:[\s,]*(?P<span>rows?|lines?|l)\s*(?P<start>\d+)(?:\s*[-\u2013:]\s*L?(?P<end>\d+))?)?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
_KINDS: dict[str, UnitKind] = {"p": "page", "p.": "page", "l": "lines", "line": "lines", "lines": "lines"}


@dataclass(frozen=True, slots=True)
class Locator:
    """A unit of a file and a span of lines (rows, for sheets) in it.

    Attributes:
        kind: What a unit of this kind of file is. ``lines`` means the file itself is the only unit.
        unit: Page, slide, part or cell number (from 1), sheet name or heading path; empty for ``lines``.
        start: First line, 1-based, of the file (``lines``) or of the unit; 0 when the whole unit is meant.
        end: Last line, inclusive; 0 when the whole unit is meant.
    """

    kind: UnitKind
    unit: str = ""
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        span = "" if not self.start else f"{self.start}-{self.end}" if self.end != self.start else f"{self.start}"
        if self.kind == "lines":
            return f"lines {span}" if span else "lines 1"
        unit = '"' + self.unit.replace("\\", "\\\\").replace('"', '\\"') + '"' if self.kind in _QUOTED else self.unit
        word = "rows" if self.kind == "sheet" else "lines"
        return f"{self.kind} {unit} {word} {span}" if span else f"{self.kind} {unit}"

    @classmethod
    def parse(cls, text: str) -> Locator:
        """Read a locator back; forgiving about ``12-40``, ``L12-L40``, ``p. 3``, commas and case.

        Raises:
            QueryError: The text is none of the forms in this module's docstring.
        """
        match = _FORM.match(text)
        if match is None or not text.strip():
            raise QueryError(_unclear(text))
        word = (match["kind"] or "lines").lower()
        kind: UnitKind = _KINDS.get(word) or word  # type: ignore[assignment]  # the pattern admits only kinds
        start, end = int(match["start"] or 0), int(match["end"] or match["start"] or 0)
        if match["quoted"] is not None and kind in _QUOTED:
            return cls(kind, re.sub(r"\\(.)", r"\1", match["quoted"]), start, max(start, end))
        if match["number"] is None or match["quoted"] is not None:
            raise QueryError(_unclear(text))
        numbers = [int(n) for n in re.findall(r"\d+", match["number"])]
        if kind == "lines":
            if match["span"]:
                raise QueryError(_unclear(text))
            return cls(kind, "", numbers[0], max(numbers))
        if kind in _QUOTED or len(numbers) > 1:
            raise QueryError(_unclear(text))
        return cls(kind, str(numbers[0]), start, max(start, end))


@lru_cache(maxsize=4096)
def stored(text: str) -> Locator | None:
    """A locator from the index; None for one that another version wrote and this one does not understand."""
    try:
        return Locator.parse(text)
    except QueryError:
        return None


def _unclear(text: str) -> str:
    return (
        f"locator {text[:80]!r} is not understood; use the locator of a hit, for example "
        '"lines 12-40", "page 3", "slide 2", "sheet \\"Budget\\" rows 2-40", "section \\"Intro > Setup\\"", "cell 4"'
    )
