"""The tables: columns, indexes, names, format number; rows to and from Arrow, ids, paths, statistics.

chunks            one row per file (ordinal -1, text null), one per chunk (ordinal >= 0), and tombstones (ordinal -2):
                  chunks a file has lost, kept as rows so that one commit replaces a file; maintenance deletes them.
vectors_<key>     one row per chunk that a model has embedded; appended to, never updated.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lancedb.index import FTS, Bitmap, BTree, IvfRq, IvfSq

from indexer.types import FileRow, FileWrite, StoredChunk

FORMAT = 1
"""Raised whenever an older program could not read what this one writes."""

REQUIRED_COLUMNS = {
    "chunks": ("chunk_id", "path", "folder", "name", "ordinal", "text", "heading", "locator", "text_hash", "tokens"),
    "vectors": ("chunk_id", "folder", "name", "text_hash", "vector"),
}
"""Without one of these columns a table of an earlier format cannot be used, and is replaced by an empty one."""

FILE, TOMBSTONE = -1, -2
"""Ordinals of rows that are not chunks."""

CHUNKS = "chunks"
CHUNK_COLUMNS = ("chunk_id", "path", "folder", "ordinal", "text", "heading", "locator", "text_hash")
"""The columns of a ``StoredChunk``, in the order of its fields."""
FILE_COLUMNS = (
    *("path", "folder", "size", "mtime_ns", "sha256", "parser", "recipe", "outcome", "reason"),
    *("chunks", "attempts", "indexed_at", "language", "inode"),
)
"""The columns of a ``FileRow``, in the order of its fields."""

VECTOR_INDEX = "vector_rq4_"
"""Prefix of the name of the approximate index; the number of vectors that it was trained on follows."""

_PREFIX = "vectors_"
_BITS = 4  # per dimension; with fewer the order within the index says too little, with more training takes longer
_TOKEN_LENGTH = 256  # bytes; longer words are not indexed


def chunks_schema() -> Any:
    """The Arrow schema of ``chunks``."""
    text, long = pa.string(), pa.int64()
    columns = {"path": text, "folder": text, "name": text, "ordinal": pa.int32(), "text": text, "heading": text}
    columns |= {"locator": text, "text_hash": text, "tokens": text, "size": long, "mtime_ns": long, "sha256": text}
    columns |= {"parser": text, "recipe": text, "outcome": text, "reason": text, "chunks": pa.int32()}
    columns |= {"attempts": pa.int32(), "indexed_at": pa.float64(), "language": text, "inode": long}
    fields = [pa.field("chunk_id", text, nullable=False), *(pa.field(name, kind) for name, kind in columns.items())]
    return pa.schema(fields, metadata={"format": str(FORMAT)})


def later_columns(have: Any) -> Any | None:
    """Columns of ``chunks`` that a table with the schema ``have`` lacks; None if it has all.

    All of them may be null and are last, so that a program of the same format reads the table with or without.
    """
    missing = [field for field in chunks_schema() if field.name not in have.names]
    return pa.schema(missing) if missing else None


def format_of(have: Any) -> int:
    """The format number of a table; an upgraded table has it in the metadata of its first column."""
    stamps = (have.metadata or {}, have.field("chunk_id").metadata or {} if "chunk_id" in have.names else {})
    return max(int(stamp.get(b"format", b"0")) for stamp in stamps)


def vectors_schema(key: str, dim: int) -> Any:
    """The Arrow schema of the vectors of one model; the key itself is in the metadata."""
    text = pa.string()
    fields = [pa.field("chunk_id", text, nullable=False)]
    fields += [pa.field(name, text) for name in ("path", "folder", "name", "text_hash")]
    fields.append(pa.field("vector", pa.list_(pa.float32(), dim)))
    return pa.schema(fields, metadata={"format": str(FORMAT), "key": key, "dim": str(dim)})


def vectors_name(key: str) -> str:
    """Table name of a model key: readable, and unique by a hash (names admit few characters)."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:40]
    return f"{_PREFIX}{slug}_{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"


def is_vectors(name: str) -> bool:
    """Whether a table holds vectors."""
    return name.startswith(_PREFIX)


def text_index() -> Any:
    """The full-text index of ``tokens``, which are indexed exactly as they were prepared.

    Only ASCII white space separates them; nothing is folded, stemmed or dropped, so ``c++``, ``foo_bar`` and
    ``v1.2.3`` stay tokens. Without positions: no phrase queries, a third of the size.
    """
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
    """Column -> index created with a table; the vector index comes later (see ``maintenance``)."""
    if table == CHUNKS:
        return {"chunk_id": BTree(), "path": BTree(), "folder": Bitmap(), "tokens": text_index()}
    return {"chunk_id": BTree(), "text_hash": BTree(), "folder": Bitmap()}


def vector_index(dim: int) -> Any:
    """The approximate index of a vector column: RaBitQ, or scalar quantisation where it refuses the dimension.

    At 100,000 rows of 384 dimensions RaBitQ took 7.3 s of CPU, product quantisation 115 s. One bit per dimension
    trains three times as fast, but then ten times as many candidates have to be compared exactly for the same recall
    (see docs/search.md). It admits only multiples of eight.
    """
    return IvfSq(distance_type="cosine") if dim % 8 else IvfRq(distance_type="cosine", num_bits=_BITS)


# Rows to and from Arrow ---------------------------------------------------------------------------------------------
# Pure conversion between frozen data and Arrow; the commit that replaces files.


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The columns of a stored chunk that tell whether it must be written again."""

    path: str
    folder: str
    ordinal: int
    locator: str
    heading: str


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What the table has of the files of a batch.

    Attributes:
        recipes: Escaped path -> parser and recipe of its file row.
        chunks: Chunk id -> its row, tombstones among them.
    """

    recipes: dict[str, tuple[str, str]]
    chunks: dict[str, StoredRow]


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """One commit that replaces files.

    Attributes:
        rows: Arrow table of everything to upsert.
        all_new: None of the rows exists, so that they can be appended.
        added: Chunks the index did not have.
        lost: Chunk id -> escaped folder of the removed chunks.
        kept: Number of chunks that stay, though their lines may shift.
        change: Escaped folder -> change of its number of chunks.
    """

    rows: Any
    all_new: bool
    added: tuple[StoredChunk, ...]
    lost: dict[str, str]
    kept: int
    change: Counter[str]


def file_id(path: str) -> str:
    """The ``chunk_id`` of a file row; it differs from every chunk's, because those are hashes of three parts."""
    return hash_of(path)


def stored_chunks(write: FileWrite) -> list[StoredChunk]:
    """The chunks of a file as they will be stored, with ids; paths are not escaped yet.

    The id is a hash of path, passage and the number of equal passages before it in the file, so that a chunk keeps
    its id, and with it its vector, when text around it changes.
    """
    seen: Counter[str] = Counter()
    out = []
    path, folder = write.row.path, write.row.folder
    for chunk in write.chunks:
        passage = chunk.passage
        chunk_id = hash_of(path, passage, str(seen[passage]))
        seen[passage] += 1
        text, heading, locator = (
            replace_surrogates(chunk.text),
            replace_surrogates(chunk.heading),
            replace_surrogates(str(chunk.locator)),
        )
        out.append(StoredChunk(chunk_id, path, folder, chunk.ordinal, text, heading, locator, hash_of(passage)))
    return out


def plan_commit(writes: Sequence[FileWrite], known: KnownRows) -> CommitPlan:
    """The commit that turns the known rows of these files into the new ones."""
    table = _RowBuilder()
    added: list[StoredChunk] = []
    change: Counter[str] = Counter()
    lost = {chunk_id: held for chunk_id, held in known.chunks.items() if held.ordinal >= 0}
    kept = 0
    for write in writes:
        path, folder = escape(write.row.path), escape(write.row.folder)
        same_recipe = known.recipes.get(path) == (write.row.parser, write.row.recipe)
        table.file(write.row)
        chunks = stored_chunks(write)
        same = _unchanged(write, chunks, known) if same_recipe else [False] * len(chunks)
        for at, (chunk, tokens) in enumerate(zip(chunks, write.tokens, strict=True)):
            held = known.chunks.get(chunk.chunk_id)
            lost.pop(chunk.chunk_id, None)
            change[folder] += 1
            if held is None or held.ordinal < 0:
                added.append(chunk)
            else:
                kept += 1
                if same[at]:
                    continue  # an equal row: rewriting it would only take it out of the indexes
            table.chunk(chunk, path, folder, replace_surrogates(tokens))
    for held in known.chunks.values():
        if held.ordinal >= 0:
            change[held.folder] -= 1
    for chunk_id, held in lost.items():
        table.tombstone(chunk_id, held)
    all_new = not known.recipes and not known.chunks
    return CommitPlan(table.arrow(), all_new, tuple(added), {i: held.folder for i, held in lost.items()}, kept, change)


def _unchanged(write: FileWrite, chunks: Sequence[StoredChunk], known: KnownRows) -> list[bool]:
    """Whether each chunk is in the table with the tokens it has now: nothing within its ``reach`` changed."""
    same = [known.chunks.get(chunk.chunk_id) == _as_stored(chunk) for chunk in chunks]
    if not any(write.reach):
        return same
    path, ids = escape(write.row.path), {chunk.chunk_id for chunk in chunks}
    gone = {held.ordinal for key, held in known.chunks.items() if key not in ids and held.path == path}

    def neighbours_unchanged(at: int, reach: int) -> bool:
        ordinal = chunks[at].ordinal
        near = range(max(0, ordinal - reach), ordinal + reach + 1)  # negative ordinals are not chunks
        return all(same[max(0, at - reach) : at + reach + 1]) and gone.isdisjoint(near)

    return [
        kept and neighbours_unchanged(at, reach)
        for at, (kept, reach) in enumerate(zip(same, write.reach, strict=True))
    ]


def _as_stored(chunk: StoredChunk) -> StoredRow:
    """The row that writing this chunk would store."""
    return StoredRow(escape(chunk.path), escape(chunk.folder), chunk.ordinal, chunk.locator, chunk.heading)


def file_rows(rows: Iterable[FileRow]) -> Any:
    """File rows alone, as Arrow."""
    table = _RowBuilder()
    for row in rows:
        table.file(row)
    return table.arrow()


class _RowBuilder:
    """Collects rows of ``chunks``; columns that a row lacks are null."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def file(self, row: FileRow) -> None:
        fields = {name: getattr(row, name) for name in FILE_COLUMNS}
        fields["reason"] = replace_surrogates(row.reason)
        fields |= {"path": escape(row.path), "folder": escape(row.folder)}
        name = escape(relative_name(row.folder, row.path))
        self._rows.append({"chunk_id": file_id(row.path), "ordinal": FILE, "name": name, **fields})

    def chunk(self, chunk: StoredChunk, path: str, folder: str, tokens: str) -> None:
        self._rows.append(
            {
                "chunk_id": chunk.chunk_id,
                "path": path,
                "folder": folder,
                "name": escape(relative_name(chunk.folder, chunk.path)),
                "ordinal": chunk.ordinal,
                "text": chunk.text,
                "heading": chunk.heading,
                "locator": chunk.locator,
                "text_hash": chunk.text_hash,
                "tokens": tokens,
            }
        )

    def tombstone(self, chunk_id: str, held: StoredRow) -> None:
        self._rows.append({"chunk_id": chunk_id, "path": held.path, "folder": held.folder, "ordinal": TOMBSTONE})

    def arrow(self) -> Any:
        return pa.Table.from_pylist(self._rows, schema=chunks_schema())


def known_from(rows: Any) -> KnownRows:
    """``KnownRows`` from rows of the table, with the columns ``KNOWN_COLUMNS``."""
    recipes: dict[str, tuple[str, str]] = {}
    chunks: dict[str, StoredRow] = {}
    names = ("chunk_id", "path", "folder", "ordinal", "locator", "heading", "parser", "recipe")
    for chunk_id, path, folder, ordinal, locator, heading, parser, recipe in _tuples(rows, names):
        if ordinal == FILE:
            recipes[path] = (parser, recipe)
        else:
            chunks[chunk_id] = StoredRow(path, folder, ordinal, locator or "", heading or "")
    return KnownRows(recipes, chunks)


def to_chunks(rows: Any) -> list[StoredChunk]:
    """Arrow rows with ``CHUNK_COLUMNS`` as frozen data, paths as the file system has them."""
    return [
        StoredChunk(chunk_id, unescape(path), unescape(folder), *rest)
        for chunk_id, path, folder, *rest in _tuples(rows, CHUNK_COLUMNS)
    ]


def to_files(rows: Any) -> list[FileRow]:
    """Arrow rows with ``FILE_COLUMNS`` as file rows; equal folders are one string object."""
    folders: dict[str, str] = {}
    out = []
    for path, folder, *rest in _tuples(rows, [name for name in FILE_COLUMNS if name in rows.column_names]):
        out.append(FileRow(unescape(path), folders.setdefault(folder, unescape(folder)), *rest))
    return out


def _tuples(rows: Any, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows.column(name).to_pylist() for name in names), strict=True)


# Paths --------------------------------------------------------------------------------------------------------------
# Every path of a file system becomes valid Unicode, reversibly.

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("\0([0-9a-f]{4})")


def escape(path: str) -> str:
    """Write each lone surrogate as NUL and four hex digits; no file system admits NUL, so this is reversible."""
    if path.isascii():
        return path
    return _SURROGATE.sub(lambda found: f"\0{ord(found[0]):04x}", path)


def unescape(path: str) -> str:
    """The path that ``escape`` was given."""
    if "\0" not in path:
        return path
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path)


def replace_surrogates(text: str) -> str:
    """Text as it is stored: lone surrogates, which no index could hold, become U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def relative_name(folder: str, path: str) -> str:
    """The path under its folder with forward slashes, as globs see it."""
    rest = path[len(folder) :] if path.startswith(folder) else path
    return rest.replace(os.sep, "/").lstrip("/")


def hash_of(*parts: str) -> str:
    """32 hex characters of the parts; unambiguous as long as only the middle one may hold NUL."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def fingerprint(path: str) -> int:
    """64-bit hash of a path, for small sets in memory in which a false positive is harmless."""
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


# Statistics ---------------------------------------------------------------------------------------------------------
# What the store reports in numbers.


@dataclass(frozen=True, slots=True)
class Replaced:
    """What one commit changed.

    Attributes:
        files: Files written.
        chunks: Chunks they have now.
        kept: Those of them the index had before (their vectors stay valid).
        removed: Chunks that were removed.
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
        columns: The columns it indexes.
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
