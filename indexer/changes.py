"""Walk x manifest: which files to read, which rows to drop. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from indexer.types import File, FileRow

ATTEMPTS = 2
"""A file that failed is read once more at the next scan, then only after it changed."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a scan found to do.

    Attributes:
        read: Files to read and hash: new ones, ones whose size or time differs, ones read by another recipe.
        gone: Paths in the manifest that the walk did not meet.
        unchanged: How many files needed nothing; none of them was opened.
    """

    read: tuple[File, ...]
    gone: tuple[str, ...]
    unchanged: int


def compare(
    found: Iterable[File],
    refused: Set[str],
    known: Mapping[str, FileRow],
    recipe: str,
    forced: Set[str] = frozenset(),
) -> Changes:
    """Compare what a walk found with what the index knows of the same part of the tree. Runs in a thread.

    Args:
        found: Files the walk yielded.
        refused: Paths the walk refused with a reason (their rows are kept up to date by the caller).
        known: Rows of that part of the tree by path.
        recipe: Stamp of the present chunker and tokens; rows made by another are read again.
        forced: Paths to read whatever their size and time say.
    """
    read: list[File] = []
    unchanged = 0
    left = dict.fromkeys(known)
    recipes: dict[str, bool] = {}  # the few there are, and whether their chunks still do
    for file in found:
        left.pop(file.path, None)
        row = known.get(file.path)
        if row is not None and row.recipe not in recipes:
            # A row without a recipe was refused by the walk; the walk now lets the file through.
            recipes[row.recipe] = bool(row.recipe) and same_recipe(row.recipe, recipe)
        if row is None or file.path in forced or _differs(file, row) or _again(row, recipes[row.recipe]):
            read.append(file)
        else:
            unchanged += 1
    gone = tuple(path for path in left if path not in refused)
    return Changes(tuple(read), gone, unchanged)


def _differs(file: File, row: FileRow) -> bool:
    return file.size != row.size or file.mtime_ns != row.mtime_ns or file.folder != row.folder


def _again(row: FileRow, still_does: bool) -> bool:
    """Whether a file that has not changed is read all the same."""
    return row.attempts < ATTEMPTS if row.outcome == "failed" else not still_does


def same_recipe(made: str, present: str) -> bool:
    """Whether chunks made by one recipe still do for another: everything but the tokenizer must be equal.

    The tokenizer's part (the last word) may differ: the embedding pass counts such chunks with the new
    tokenizer and sends back only files that no longer fit, so that a change of model re-embeds without parsing.
    """
    return made.rpartition(" ")[0] == present.rpartition(" ")[0]
