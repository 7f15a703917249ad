"""The scope of a query: which folders its glob means, and what is said when no file is in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from indexer.types import Scope

NO_FILE = "No indexed file matches path_glob "
"""How the notice begins of an answer without hits where no file is in the scope."""


def scope_below_folders(scope: Scope, folders: Sequence[str]) -> Scope:
    """The scope limited to folders, its glob relative to them.

    Hits show absolute paths, so a glob may begin with the path of a folder: then it means that folder alone.

    Args:
        scope: As asked.
        folders: Roots of the folders to search.
    """
    glob = scope.path_glob
    asked = "" if glob is None else glob.replace(os.sep, "/")
    for folder in sorted(folders, key=len, reverse=True):
        root = folder.replace(os.sep, "/").rstrip("/")
        if asked.rstrip("/") == root and root:
            return replace(scope, folders=(folder,), path_glob=None)
        if root and asked.startswith(f"{root}/"):
            return replace(scope, folders=(folder,), path_glob=asked[len(root) :])
    return replace(scope, folders=tuple(folders))


def no_file_notice(glob: str) -> str:
    """The notice of an answer without hits where no file is in the scope; of the glob as it was asked for."""
    return (
        f"{NO_FILE}{glob[:200]!r}. It is matched with the path below the folder, or with the file name "
        'if it has no slash: "*.md", "docs/*.md", "docs/**", or a whole path as a hit shows it.'
    )
