"""A folder while it is being kept indexed: what it was asked to be, its model, and where it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.documents.parse import PARSERS
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
        spec: Where it lies and what it is; None when it cannot be had.
        problem: Why not, with the remedy; None when all is well.
        tokens: Its tokenizer, or the embedded model's when it cannot be had: text is indexed all the same.
        languages: ISO 639-1 codes it was made for, None when it reads many or nobody knows.
    """

    name: str
    spec: ModelSpec | None
    problem: SlotUnavailable | None
    tokens: Tokens
    languages: frozenset[str] | None

    @property
    def could_be_prepared(self) -> bool:
        """Whether torch loads it on the CPU: it may have an ONNX form one day (see ``exports``)."""
        return self.spec is not None and (self.spec.runtime, self.spec.device) == ("torch", "cpu")

    @property
    def recipe(self) -> str:
        """Stamp of everything that shapes a chunk; the tokenizer last (see ``changes.same_recipe``)."""
        return f"{PARSERS} {CHUNKER} {WORDS} {self.tokens.stamp}/{self.tokens.limit}"


@dataclass(slots=True)
class LiveFolder:
    """One folder's state. The passes write it, status reads it, all on one event loop.

    Attributes:
        known: Path, configured model, includes and excludes, who named it.
        rank: Place in the list of folders: the order of work among equals.
        model: Its model.
        ignore: What not to index below it.
        state: What the text pass is doing to it.
        detail: One sentence for people.
        to_read: Files still to be read by the present scan.
        available: False while the folder cannot be reached (unmounted, deleted): its rows stay.
        unwatched: Why changes are found by rescanning instead of watching; empty when watched.
        scanned: A whole scan has been finished since the start.
        last_scan: When, seconds since the epoch.
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
    unwatched: str = ""
    scanned: bool = False
    last_scan: float | None = None
    embedding_problem: str = ""

    @property
    def path(self) -> str:
        """The root, absolute and resolved."""
        return self.known.path


class Folders:
    """The folders being kept, by path, in the order they were named."""

    def __init__(self) -> None:
        self._live: dict[str, LiveFolder] = {}

    def __iter__(self) -> Iterator[LiveFolder]:
        return iter(tuple(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def get(self, path: str) -> LiveFolder | None:
        """The folder with this root."""
        return self._live.get(path)

    def put(self, folder: LiveFolder) -> None:
        """Add or replace a folder."""
        self._live[folder.path] = folder

    def drop(self, path: str) -> None:
        """Forget a folder; nothing happens if it is not known."""
        self._live.pop(path, None)

    def holding(self, path: str) -> LiveFolder | None:
        """The folder a path lies in."""
        for folder in self:
            if path == folder.path or path.startswith(folder.path.rstrip(os.sep) + os.sep):
                return folder
        return None
