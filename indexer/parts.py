"""What is open while the engine runs."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.embedding_pass import EmbeddingPass
from indexer.export_pass import ExportPass
from indexer.manifest import Manifest
from indexer.model.slot import ModelSlot
from indexer.search import Search
from indexer.store.store import Store
from indexer.text.pool import Parsers
from indexer.text_pass import TextPass
from indexer.work_queue import WorkQueue


@dataclass(frozen=True, slots=True)
class Parts:
    """The open parts. Slot and passes are None in a process that only reads the index of another."""

    store: Store
    manifest: Manifest
    parsers: Parsers
    queue: WorkQueue
    search: Search
    slot: ModelSlot | None
    text_pass: TextPass | None
    embedding_pass: EmbeddingPass | None
    export_pass: ExportPass | None
