"""One look at a folder while it is being worked off, perhaps in several slices."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from indexer.changes import Changes
from indexer.folder import LiveFolder
from indexer.manifest import Manifest
from indexer.types import File, FileRow
from indexer.work_queue import Dirty

FEW = 4
"""Files to read for which no parser process is started, if they are small plain text."""


@dataclass(slots=True)
class Scan:
    """What a comparison of a folder with the index found, as far as it has not been done yet.

    Attributes:
        folder: The folder.
        dirty: What was looked at.
        files: Files still to be read.
        few: There were hardly any from the start.
        gone: Files that the walk did not meet, with their rows as they were then.
        rows: Rows of files that are not read, still to be written.
        until: Loop time from which others' turn comes, if there are others.
    """

    folder: LiveFolder
    dirty: Dirty
    files: deque[File]
    few: bool
    gone: Mapping[str, FileRow]
    rows: list[FileRow] = field(default_factory=list)
    until: float = 0.0

    @classmethod
    def of(cls, folder: LiveFolder, dirty: Dirty, changes: Changes, known: Mapping[str, FileRow]) -> Scan:
        """A scan from the outcome of a comparison with the rows that are ``known``."""
        gone = {path: known[path] for path in changes.gone}
        return cls(folder, dirty, deque(changes.read), len(changes.read) <= FEW, gone)

    def still_gone(self, manifest: Manifest) -> list[str]:
        """Files that went and that no later look has met: their rows are what they were."""
        return [path for path, row in self.gone.items() if manifest.row(self.folder.path, path) == row]
