"""The folders of a running engine: what is to be indexed, by which model, and how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.documents.parse import PARSERS
from indexer.documents.secret_policy import BLANK_ALL, SecretPolicy
from indexer.errors import SlotUnavailable
from indexer.files.ignore import Ignore
from indexer.folders.registry import KnownFolder
from indexer.models.tokenizer import Tokens
from indexer.slot.embedder import ModelSpec
from indexer.status_types import FolderState
from indexer.text.chunk import CHUNKER
from indexer.text.tokens import WORDS


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A folder's model as found on this machine.

    Attributes:
        name: As configured.
        spec: Where its files are and how it is run; None when it is not available.
        problem: Why not, with the remedy; None when it is.
        tokens: Its tokenizer, or the embedded model's when it is not available: text is indexed all the same.
        languages: ISO 639-1 codes it was made for, None when it reads many or nobody knows.
        secrets: Which secrets are not blanked in its text, and may stand in the names of its files.
    """

    name: str
    spec: ModelSpec | None
    problem: SlotUnavailable | None
    tokens: Tokens
    languages: frozenset[str] | None
    secrets: SecretPolicy = BLANK_ALL

    @property
    def could_be_prepared(self) -> bool:
        """Whether torch loads it on the CPU: it may get an ONNX form (see ``models.export``)."""
        return self.spec is not None and (self.spec.runtime, self.spec.device) == ("torch", "cpu")

    @property
    def recipe(self) -> str:
        """Stamp of everything that shapes a chunk; the tokenizer last (see ``changes.same_recipe``)."""
        return f"{PARSERS} {self.secrets.stamp} {CHUNKER} {WORDS} {self.tokens.stamp}/{self.tokens.limit}"


@dataclass(slots=True)
class LiveFolder:
    """The state of one indexed folder. The passes write it, status reads it, all on one event loop.

    Attributes:
        known: The entry in the list of folders: path, configured model, includes and excludes.
        rank: Position in the list of folders; lower ranks are embedded first.
        model: Its model.
        ignore: What not to index below it.
        state: What the text pass is doing.
        detail: One sentence for people.
        to_read: Files still to be read by the present scan.
        available: False while the folder cannot be reached (unmounted, deleted): its rows stay.
        unwatched: Why changes are found by rescanning instead of watching; empty when watched.
        scanned: Whether a scan of all of it has been finished since the start.
        last_scan: When the last one was finished, seconds since the epoch.
        embedding_problem: Why its chunks cannot be embedded now, empty when they can.
    """

    known: KnownFolder
    rank: int
    model: FolderModel
    ignore: Ignore
    state: FolderState = "waiting"
    detail: str = ""
    to_read: int = 0
    available: bool = True
    watch_problem: str = ""
    scanned: bool = False
    last_scan: float | None = None
    embedding_problem: str = ""

    @property
    def path(self) -> str:
        """The root, absolute and resolved."""
        return self.known.path


class Folders:
    """The folders that are indexed, by path, in the order of the list."""

    def __init__(self) -> None:
        self._by_path: dict[str, LiveFolder] = {}

    def __iter__(self) -> Iterator[LiveFolder]:
        return iter(tuple(self._by_path.values()))

    def __len__(self) -> int:
        return len(self._by_path)

    def get(self, path: str) -> LiveFolder | None:
        """The folder with this root."""
        return self._by_path.get(path)

    def put(self, folder: LiveFolder) -> None:
        """Add or replace a folder."""
        self._by_path[folder.path] = folder

    def drop(self, path: str) -> None:
        """Remove a folder; nothing happens if there is none."""
        self._by_path.pop(path, None)

    def containing(self, path: str) -> LiveFolder | None:
        """The folder that contains a path, or is it."""
        for folder in self:
            if path == folder.path or path.startswith(folder.path.rstrip(os.sep) + os.sep):
                return folder
        return None
