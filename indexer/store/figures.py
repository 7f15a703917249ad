"""What the store says of itself in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.types import StoredChunk


@dataclass(frozen=True, slots=True)
class Replaced:
    """What one commit changed.

    Attributes:
        files: Files written.
        chunks: Chunks they have now.
        kept: Those of them the index had before (their vectors stay valid).
        removed: Chunks that went.
        added: The chunks that are new, as stored.
    """

    files: int
    chunks: int
    kept: int
    removed: int
    added: tuple[StoredChunk, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is indexed.

    Attributes:
        chunks: Folder -> chunks.
        embedded: Model key -> folder -> chunks that have a vector of this model.
    """

    chunks: dict[str, int]
    embedded: dict[str, dict[str, int]]
