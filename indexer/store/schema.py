"""The tables: their columns, their indexes, their names, and the number of their format.

chunks            one row a file (ordinal -1, text null), one a chunk (ordinal >= 0), and tombstones (ordinal -2):
                  chunks a file has lost, kept as rows so that one commit replaces a file; maintenance deletes them.
vectors_<key>     one row a chunk that a model has embedded; appended to, never updated.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

FORMAT = 1
"""Raised whenever an older program could not read what this one writes."""

NEEDED = {
    "chunks": ("chunk_id", "path", "folder", "name", "ordinal", "text", "heading", "locator", "text_hash", "tokens"),
    "vectors": ("chunk_id", "folder", "name", "text_hash", "vector"),
}
"""Columns without which a table of an earlier format cannot serve, and is made anew."""

FILE, TOMBSTONE = -1, -2
"""Ordinals of rows that are not chunks."""

CHUNKS = "chunks"
CHUNK_COLUMNS = ("chunk_id", "path", "folder", "ordinal", "text", "heading", "locator", "text_hash")
"""The columns of a ``StoredChunk``, in the order of its fields."""
FILE_COLUMNS = (
    *("path", "folder", "size", "mtime_ns", "sha256", "parser", "recipe", "outcome", "reason"),
    *("chunks", "attempts", "indexed_at", "language"),
)
"""The columns of a ``FileRow``, in the order of its fields."""

VECTOR_INDEX = "vector_rq4_"
"""How names of the approximate index begin; the number of vectors that it was trained on follows."""

_PREFIX = "vectors_"
_BITS = 4  # a dimension; with fewer the order within the index says too little, with more training takes longer
_TOKEN_LENGTH = 256  # bytes; longer words are not indexed


def chunks_schema() -> Any:
    """The Arrow schema of ``chunks``."""
    import pyarrow as pa  # noqa: PLC0415

    text, long = pa.string(), pa.int64()
    columns = {"path": text, "folder": text, "name": text, "ordinal": pa.int32(), "text": text, "heading": text}
    columns |= {"locator": text, "text_hash": text, "tokens": text, "size": long, "mtime_ns": long, "sha256": text}
    columns |= {"parser": text, "recipe": text, "outcome": text, "reason": text, "chunks": pa.int32()}
    columns |= {"attempts": pa.int32(), "indexed_at": pa.float64(), "language": text}
    fields = [pa.field("chunk_id", text, nullable=False), *(pa.field(name, kind) for name, kind in columns.items())]
    return pa.schema(fields, metadata={"format": str(FORMAT)})


def missing_columns(have: Any) -> Any | None:
    """Columns that ``chunks`` has since its first version and a table with the schema ``have`` lacks; None if none.

    All of them may be null and stand last, so that a program of the same format reads the table with or without.
    """
    import pyarrow as pa  # noqa: PLC0415

    missing = [field for field in chunks_schema() if field.name not in have.names]
    return pa.schema(missing) if missing else None


def format_of(have: Any) -> int:
    """The number of the format a table was written in; a table brought up to date says it on its first column."""
    stamps = (have.metadata or {}, have.field("chunk_id").metadata or {} if "chunk_id" in have.names else {})
    return max(int(stamp.get(b"format", b"0")) for stamp in stamps)


def vectors_schema(key: str, dim: int) -> Any:
    """The Arrow schema of the vectors of one model; the key itself is in the metadata."""
    import pyarrow as pa  # noqa: PLC0415

    text = pa.string()
    fields = [pa.field("chunk_id", text, nullable=False)]
    fields += [pa.field(name, text) for name in ("path", "folder", "name", "text_hash")]
    fields.append(pa.field("vector", pa.list_(pa.float32(), dim)))
    return pa.schema(fields, metadata={"format": str(FORMAT), "key": key, "dim": str(dim)})


def vectors_name(key: str) -> str:
    """Table name of a model key: readable, and as unique as the key (names admit few characters)."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:40]
    return f"{_PREFIX}{slug}_{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"


def is_vectors(name: str) -> bool:
    """Whether a table holds vectors."""
    return name.startswith(_PREFIX)


def words_index() -> Any:
    """The full-text index of ``tokens``, which takes them exactly as they were prepared.

    Only ASCII white space separates; nothing is folded, stemmed or dropped, so ``c++``, ``foo_bar`` and ``v1.2.3``
    stay words. Positions are left out: no phrase queries, a third of the size.
    """
    from lancedb.index import FTS  # noqa: PLC0415

    return FTS(
        base_tokenizer="whitespace",
        with_position=False,
        max_token_length=_TOKEN_LENGTH,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )


def indexes(table: str) -> dict[str, Any]:
    """Column -> index made at the birth of a table; the vector index comes later (see ``maintenance``)."""
    from lancedb.index import Bitmap, BTree  # noqa: PLC0415

    if table == CHUNKS:
        return {"chunk_id": BTree(), "path": BTree(), "folder": Bitmap(), "tokens": words_index()}
    return {"chunk_id": BTree(), "text_hash": BTree(), "folder": Bitmap()}


def vector_index(dim: int) -> Any:
    """The approximate index of a vector column: RaBitQ, or scalar quantisation where it refuses the dimension.

    At 100,000 rows of 384 dimensions RaBitQ took 7.3 s of CPU, product quantisation 115 s. One bit a dimension trains
    three times as fast, but then ten times as many candidates have to be compared exactly for the same recall (see
    docs/search.md). It admits only multiples of eight.
    """
    from lancedb.index import IvfRq, IvfSq  # noqa: PLC0415

    return IvfSq(distance_type="cosine") if dim % 8 else IvfRq(distance_type="cosine", num_bits=_BITS)
