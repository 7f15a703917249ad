"""The manifest: the index's file rows in memory, loaded once, changed only after the store has committed."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from indexer.documents.formats import by_name
from indexer.types import FileRow

SEPARATORS = "/\\"
_EXPECTED_REASONS = ("not text: ", "binary file")
"""How reasons begin that are no surprise."""


class Manifest:
    """The file rows by path, with running counts per folder.

    Attributes:
        version: How many rows have been dropped or replaced; ``changed_since`` takes an earlier one.
    """

    def __init__(self, rows: Iterable[FileRow] = ()) -> None:
        self.version = 0
        self._changed: dict[str, int] = {}
        self._folders: dict[str, dict[str, FileRow]] = {}
        self._outcomes: dict[str, Counter[str]] = {}
        self._languages: dict[str, Counter[str]] = {}
        self._formats: dict[str, dict[str, Counter[str]]] = {}
        self._problems: dict[str, dict[str, FileRow]] = {}
        for row in rows:
            self.put(row)

    def reload(self, rows: Iterable[FileRow]) -> None:
        """Replace all rows by these."""
        for folder in self.folders():
            self.drop_folder(folder)
        for row in rows:
            self.put(row)

    def put(self, row: FileRow) -> None:
        """Add or replace a row."""
        self.drop(row.folder, row.path)
        self._folders.setdefault(row.folder, {})[row.path] = row
        self._outcomes.setdefault(row.folder, Counter())[row.outcome] += 1
        if row.language is not None:
            self._languages.setdefault(row.folder, Counter())[row.language] += row.chunks
        self._formats.setdefault(row.folder, {}).setdefault(format_name(row.path), Counter())[row.outcome] += 1
        if row.reason or row.outcome != "indexed":
            self._problems.setdefault(row.folder, {})[row.path] = row

    def changed_since(self, version: int, path: str) -> bool:
        """Whether a file's row has been dropped or replaced since the manifest had ``version``."""
        return self._changed.get(path, 0) > version

    def drop(self, folder: str, path: str) -> None:
        """Remove a file's row; nothing happens if there is none."""
        row = self._folders.get(folder, {}).pop(path, None)
        if row is not None:
            self._outcomes[folder][row.outcome] -= 1
            if row.language is not None:
                self._languages[folder][row.language] -= row.chunks
            self._formats[folder][format_name(path)][row.outcome] -= 1
            self._problems.get(folder, {}).pop(path, None)
            self.version += 1
            self._changed[path] = self.version

    def drop_folder(self, folder: str) -> None:
        """Remove a folder's rows."""
        self._folders.pop(folder, None)
        self._outcomes.pop(folder, None)
        self._languages.pop(folder, None)
        self._formats.pop(folder, None)
        self._problems.pop(folder, None)

    def folders(self) -> tuple[str, ...]:
        """Folders with at least one row."""
        return tuple(folder for folder, rows in self._folders.items() if rows)

    def rows(self, folder: str) -> Mapping[str, FileRow]:
        """All rows of a folder by path (a live view: do not keep it across an await)."""
        return self._folders.get(folder, {})

    def row(self, folder: str, path: str) -> FileRow | None:
        """The row of one file."""
        return self._folders.get(folder, {}).get(path)

    def find(self, path: str) -> FileRow | None:
        """The row of a file in whichever folder has it."""
        for rows in self._folders.values():
            if path in rows:
                return rows[path]
        return None

    def find_ignoring_unicode_form(self, path: str) -> FileRow | None:
        """The row of the one file whose name differs from ``path`` in Unicode normal form only, None if not one.

        File systems keep names as typed, or decomposed; a client that repeats a name may compose it.
        """
        same = self.all_ignoring_unicode_form(path)
        return same[0] if len(same) == 1 else None

    def all_ignoring_unicode_form(self, path: str) -> list[FileRow]:
        """The rows of all files whose names differ from ``path`` in Unicode normal form at most."""
        if path.isascii():
            return []
        composed = unicodedata.normalize("NFC", path)
        return [
            row
            for rows in self._folders.values()
            for known, row in rows.items()
            if not known.isascii() and unicodedata.normalize("NFC", known) == composed
        ]

    def below(self, folder: str, target: str) -> dict[str, FileRow]:
        """Rows of ``target`` itself and of everything below it."""
        rows = self._folders.get(folder, {})
        if target == folder:
            return dict(rows)
        below = tuple(target + separator for separator in SEPARATORS)
        return {path: row for path, row in rows.items() if path == target or path.startswith(below)}

    def count(self, folder: str, outcome: str) -> int:
        """How many files of a folder have this outcome."""
        counter = self._outcomes.get(folder)
        return counter[outcome] if counter else 0

    def formats(self, folder: str) -> dict[str, dict[str, int]]:
        """Files of a folder by format and outcome, the most frequent format first."""
        found = {name: +outcomes for name, outcomes in self._formats.get(folder, {}).items() if any(outcomes.values())}
        return {name: dict(found[name]) for name in sorted(found, key=lambda name: (-found[name].total(), name))}

    def languages(self, folder: str) -> Mapping[str, int]:
        """Chunks of a folder by the language of their file; the empty code for text that shows none.

        Files that an earlier program indexed are not counted until they are read again.
        """
        return +self._languages.get(folder, Counter())

    def problems(self, folder: str) -> list[FileRow]:
        """Rows that are not searchable, or not all of them: failures first, binary files last, then by path."""
        rows = self._problems.get(folder, {}).values()
        return sorted(
            rows, key=lambda row: (row.outcome != "failed", row.reason.startswith(_EXPECTED_REASONS), row.path)
        )


def format_name(path: str) -> str:
    """What people call a file's format: its suffix, or ``other``."""
    found = by_name(path)
    return found.name if found is not None else "other"
