"""A word that certainly stands in one of the user's files: what to search for to see that searching works."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.config import Config

FILES = 400
"""Files to look at before giving up: only their names are read, but for a few."""
HEAD = 20_000
"""Bytes of a file from which its word is taken."""
_WORD = re.compile(r"[^\W\d_]{5,18}")


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and a word in it.

    Attributes:
        path: The file, absolute.
        word: The longest of its words.
    """

    path: str
    word: str


def samples(folders: Sequence[str], config: Config, count: int = 3) -> list[Sample]:
    """Return a few files with text, in the order in which folders are walked, those of different folders first.

    Args:
        folders: Absolute, links resolved.
        config: Whose rules say what is indexed.
        count: How many at most.
    """
    found = [list(islice(_of(folder, config), count)) for folder in folders]
    by_turns = [each[turn] for turn in range(count) for each in found if turn < len(each)]
    return by_turns[:count]


def _of(folder: str, config: Config) -> Iterator[Sample]:
    from indexer.documents.formats import by_name  # noqa: PLC0415
    from indexer.files.walk import walk  # noqa: PLC0415 - not for --help
    from indexer.folders.registry import KnownFolder, list_folders  # noqa: PLC0415
    from indexer.indexing.queue import ignore_for  # noqa: PLC0415
    from indexer.types import File  # noqa: PLC0415

    known = next((each for each in list_folders(config).known if each.path == folder), KnownFolder(folder))
    if not os.path.isdir(folder):  # a disk that is away: it has no words, and the trial says so
        return
    entries = (entry for entry in walk(folder, ignore_for(known, config)) if isinstance(entry, File))
    for entry in islice(entries, FILES):
        form = by_name(entry.path)
        if form is None or form.family not in ("plain", "table"):
            continue
        word = _word(Path(entry.path))
        if word:
            yield Sample(entry.path, word)


def _word(path: Path) -> str:
    """Return the longest word of a UTF-8 file's beginning; empty when it has none, or cannot be read."""
    try:
        with path.open("rb") as stream:
            text = stream.read(HEAD).decode(errors="ignore")
    except OSError:  # unreadable here: the index will say so
        return ""
    return max(_WORD.findall(text), key=len, default="")
