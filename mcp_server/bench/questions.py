"""Questions with known answers: from a file the user wrote, or drawn from the headings of the texts."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.documents.formats import by_name
from indexer.errors import QueryError
from indexer.text.structure import JOINT, segments
from indexer.types import Locator

LEAST_BODY = 200
"""Characters below a heading from which it has something to answer with."""
SHORTEST, LONGEST = 8, 120
"""Characters of a heading that makes a question."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the place that answers it.

    Attributes:
        text: The question.
        path: Absolute path of the file.
        first: First line of the answer, 1-based; 0 when the whole file answers.
        last: Its last line.
    """

    text: str
    path: str
    first: int = 0
    last: int = 0

    def answered_by(self, path: str, locator: str) -> bool:
        """Whether a hit shows the answer: the same file, and lines in common where both have them."""
        if path != self.path:
            return False
        try:
            place = Locator.parse(locator)
        except QueryError:
            return not self.first
        return not self.first or place.kind != "lines" or (place.start <= self.last and self.first <= place.end)


def from_lines(lines: Iterable[str], source: str, base: str) -> list[Asked]:
    """Read questions, one JSON object a line: ``{"question": ..., "path": ..., "lines": "12-40"}``, lines optional.

    Args:
        lines: The file's lines; empty ones are passed over.
        source: The file's name, for errors.
        base: Directory that relative paths count from.

    Raises:
        QueryError: A line is none; says which.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, path = given["question"].strip(), os.path.join(base, os.path.expanduser(given["path"]))
            place = Locator.parse(str(given.get("lines") or "1"))
            span = (place.start, place.end) if given.get("lines") else (0, 0)
        except (ValueError, KeyError, TypeError, AttributeError, QueryError):
            raise QueryError(
                f'{source}, line {number}: write {{"question": "...", "path": "...", "lines": "12-40"}}; '
                "lines may be left out"
            ) from None
        found.append(Asked(text, os.path.realpath(path), *span))
    return [asked for asked in found if asked.text]


def from_headings(texts: Sequence[tuple[str, str]], count: int, seed: int = 0) -> list[Asked]:
    """Draw questions: a heading that stands once, answered by what stands below it.

    Args:
        texts: Path and text of each file.
        count: Questions at most.
        seed: Equal seeds draw equal questions from equal texts.
    """
    found: dict[str, list[Asked]] = {}
    for path, text in texts:
        form = by_name(path)
        starts = segments(text, form.syntax) if form is not None and form.family == "plain" else ()
        for segment in starts:
            title = segment.heading.rsplit(JOINT, 1)[-1].strip()
            body = text[segment.start : segment.end]
            if SHORTEST <= len(title) <= LONGEST and len(body.strip()) >= LEAST_BODY + len(title):
                first = text.count("\n", 0, segment.start) + 1
                asked = Asked(title, path, first, first + body.rstrip().count("\n"))
                found.setdefault(title.casefold(), []).append(asked)
    single = [same[0] for same in found.values() if len(same) == 1]
    return random.Random(seed).sample(single, min(count, len(single)))  # noqa: S311 - a sample, not a secret
