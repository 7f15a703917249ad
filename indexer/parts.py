"""What is open while the engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.documents.pool import Parsers
from indexer.embedding_pass import EmbeddingPass
from indexer.errors import StoreError
from indexer.manifest import Manifest
from indexer.search import Search
from indexer.slot.slot import ModelSlot
from indexer.store.store import Store
from indexer.text_pass import TextPass
from indexer.work_queue import WorkQueue


@dataclass(frozen=True, slots=True)
class Parts:
    """The open parts. Passes are None in a process that only reads; so is the slot beside another writer.

    Attributes:
        refused: Why the index can only be read although it should be written; None when that is as it should be.
        warnings: What speaks against the place of the data directory, one sentence each.
    """

    store: Store
    manifest: Manifest
    parsers: Parsers
    queue: WorkQueue
    search: Search
    slot: ModelSlot | None
    text_pass: TextPass | None
    embedding_pass: EmbeddingPass | None
    refused: StoreError | None = None
    warnings: tuple[str, ...] = ()
