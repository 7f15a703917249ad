r"""Lines of a text, counted as ``grep -n`` and editors do: a line ends at ``\n`` (its ``\r`` belongs to it)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

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
