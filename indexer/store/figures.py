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


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """One index of a table.

    Attributes:
        kind: As the storage library names it (``BTree``, ``Bitmap``, ``FTS``, ``IvfRq``, ``IvfSq``).
        columns: What it is over.
        segments: Parts that each search reads; one after a rebuild.
    """

    kind: str
    columns: tuple[str, ...]
    segments: int


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """The state of one table on disk.

    Attributes:
        rows: Rows that are not deleted; of the chunk table, files, chunks and tombstones.
        fragments: Files of rows that each search opens.
        written: Rows written since the last maintenance, which the indexes do not cover yet.
        deleted: Rows that are deleted and still on the disk, at least one if there are any.
        indexes: Index name -> its state.
    """

    rows: int
    fragments: int
    written: int
    deleted: int
    indexes: dict[str, IndexStatistics]


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """The state of the tables on disk.

    Attributes:
        chunks: Of the table of files and chunks.
        vectors: Model key -> of its table of vectors.
    """

    chunks: TableStatistics
    vectors: dict[str, TableStatistics]
