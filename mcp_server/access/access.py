"""What one request may see: who asks, the folders, and which of the indexed folders that leaves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.folders.registry import KnownFolder


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and what may be seen. Paths are compared as text, part by part: no link is followed here.

    Attributes:
        user: Name of a token, or the identity provider's subject; empty for the user at this machine.
        client: The program, as its ``clientInfo`` says.
        folders: Absolute paths, links resolved, that may be seen with all below them; None is all.
    """

    user: str = ""
    client: str = ""
    folders: tuple[str, ...] | None = None

    def admits(self, path: str) -> bool:
        """Whether a path may be seen: it is one of the folders, or below one."""
        return self.folders is None or any(is_within(path, folder) for folder in self.folders)

    def narrowed(self, folders: Sequence[str]) -> Access:
        """Return the access to what is in these folders too."""
        if self.folders is None:
            return replace(self, folders=tuple(folders))
        both = [one for one in self.folders if any(is_within(one, other) for other in folders)]
        both += [other for other in folders if self.admits(other)]
        return replace(self, folders=tuple(dict.fromkeys(both)))


@dataclass(frozen=True, slots=True)
class VisibleFolder:
    """An indexed folder, or a part of one, that may be seen.

    Attributes:
        path: What may be seen, with all below it.
        known: The indexed folder that has it.
    """

    path: str
    known: KnownFolder

    @property
    def is_part(self) -> bool:
        """Whether it is less than the indexed folder."""
        return self.path != self.known.path

    @property
    def below(self) -> str:
        """Its path below the indexed folder; empty for all of it."""
        return os.path.relpath(self.path, self.known.path) if self.is_part else ""


def visible_folders(access: Access, known: Iterable[KnownFolder]) -> tuple[VisibleFolder, ...]:
    """Return what of the indexed folders may be seen: each whole, or its parts that are allowed."""
    found: list[VisibleFolder] = []
    for folder in known:
        if access.admits(folder.path):
            found.append(VisibleFolder(folder.path, folder))
            continue
        parts = sorted({part for part in access.folders or () if is_within(part, folder.path)}, key=len)
        for part in parts:
            if not any(each.known is folder and is_within(part, each.path) for each in found):
                found.append(VisibleFolder(part.rstrip(os.sep), folder))
    return tuple(found)


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder or below it; ``/a/bc`` is not within ``/a/b``. A path with ``..`` in it never is."""
    if os.pardir in path.split(os.sep):
        return False
    folder = folder.rstrip(os.sep)
    return path.rstrip(os.sep) == folder or path.startswith(folder + os.sep)
