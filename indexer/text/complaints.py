"""What parser processes wrote to stderr: the last lines, each classed, for status and doctor."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from indexer.types import OneLine, Timestamp

Level = Literal["error", "warning", "information"]

_ERROR = re.compile(
    r"\b(error|exception|traceback|panick?(ed)?|fatal|abort(ed)?|segmentation|killed|failed|cannot)\b|Error\b", re.I
)
_WARNING = re.compile(r"\b(warn(ing)?|deprecat\w*|could not)\b|Warning\b", re.I)
_KEPT = 100
_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a parser process, or starting one, said."""

    level: Level
    text: OneLine
    at: Timestamp
    pid: int  # 0 for the pool itself


class Complaints:
    """A ring of the last lines of all parser processes; opened and closed with the pool."""

    def __init__(self) -> None:
        self._kept: deque[Complaint] = deque(maxlen=_KEPT)

    def add(self, text: str, pid: int = 0, level: Level | None = None) -> None:
        """Keep a line, classed by its words unless the level is known; blank lines are dropped."""
        line = text.strip()[:_LENGTH]
        if line:
            self._kept.append(Complaint(level or classed(line), line, time.time(), pid))

    def last(self, level: Level | None = None, count: int = 10) -> tuple[Complaint, ...]:
        """The newest lines of a level (None: of all), oldest first."""
        found = [c for c in self._kept if level is None or c.level == level]
        return tuple(found[-count:])


def classed(line: str) -> Level:
    """The level of a line by the words in it; ``warning:`` in front wins."""
    start = line[:12].lower()
    if start.startswith("warn"):
        return "warning"
    if _ERROR.search(line):
        return "error"
    return "warning" if _WARNING.search(line) else "information"
