"""Reads the record; what is no line of it, such as one that a kill left unfinished, is counted and skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from mcp_server.record.record import DIRECTORY, MAX_LINE, files_of


class RecordReading:
    """One pass over the record.

    Attributes:
        unreadable: Lines that were skipped so far.
    """

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY
        self.unreadable = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines, the oldest first.

        Raises:
            OSError: A file cannot be read.
        """
        for file in files_of(self._directory):
            with suppress(FileNotFoundError), file.open("rb") as stream:  # it may have become too old meanwhile
                while line := stream.readline(2 * MAX_LINE):
                    if line.strip():
                        yield from self._parsed(line)

    def _parsed(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            found = json.loads(line)
            at_of(found)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self.unreadable += 1
        else:
            yield found


def at_of(line: dict[str, Any]) -> float:
    """Return when an answer was given, seconds since the epoch.

    Raises:
        ValueError, TypeError, KeyError: It is no line of the record.
    """
    return datetime.fromisoformat(line["at"]).timestamp()


def last_answers(data_dir: Path) -> dict[str, float]:
    """Return when each user got the last answer, seconds since the epoch; as far back as the record goes."""
    return {str(line.get("user", "")): at_of(line) for line in RecordReading(data_dir).lines()}
