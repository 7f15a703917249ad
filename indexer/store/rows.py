"""Between the rooms' frozen data and Arrow: ids, the rows of a file, and back again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.store.paths import below, clean, digest, escape, unescape
from indexer.store.schema import CHUNK_COLUMNS, FILE, FILE_COLUMNS, TOMBSTONE, chunks_schema
from indexer.types import FileRow, FileWrite, StoredChunk


@dataclass(frozen=True, slots=True)
class Held:
    """What the table holds of one chunk, enough to tell whether it must be written again."""

    path: str
    folder: str
    ordinal: int
    locator: str
    heading: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the table holds of the files of a batch.

    Attributes:
        recipes: Escaped path -> parser and recipe of its file row.
        chunks: Chunk id -> its row, tombstones among them.
    """

    recipes: dict[str, tuple[str, str]]
    chunks: dict[str, Held]


@dataclass(frozen=True, slots=True)
class Plan:
    """One commit that replaces files.

    Attributes:
        rows: Arrow table of everything to upsert.
        fresh: None of the rows exists, so that they can be appended.
        added: Chunks the index did not have.
        lost: Chunk id -> escaped folder of the chunks that go.
        kept: Number of chunks that stay, though their lines may shift.
        change: Escaped folder -> chunks more (or fewer).
    """

    rows: Any
    fresh: bool
    added: tuple[StoredChunk, ...]
    lost: dict[str, str]
    kept: int
    change: Counter[str]


def file_id(path: str) -> str:
    """The ``chunk_id`` of a file row: like no chunk's, because theirs are hashes of three parts."""
    return digest(path)


def stored_chunks(write: FileWrite) -> list[StoredChunk]:
    """The chunks of a file as they will be stored, ids included; paths are not escaped yet.

    The id is a hash of path, passage and how often the passage came before in the file, so that a chunk keeps its
    id, and with it its vector, while everything around it changes.
    """
    seen: Counter[str] = Counter()
    out = []
    path, folder = write.row.path, write.row.folder
    for chunk in write.chunks:
        passage = chunk.passage
        chunk_id = digest(path, passage, str(seen[passage]))
        seen[passage] += 1
        text, heading, locator = clean(chunk.text), clean(chunk.heading), clean(str(chunk.locator))
        out.append(StoredChunk(chunk_id, path, folder, chunk.ordinal, text, heading, locator, digest(passage)))
    return out


def plan(writes: Sequence[FileWrite], known: Known) -> Plan:
    """Work out the one commit that turns what is known of these files into what is to be written."""
    table = _Columns()
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
                    continue  # the very same row: rewriting it would only un-index it
            table.chunk(chunk, path, folder, clean(tokens))
    for held in known.chunks.values():
        if held.ordinal >= 0:
            change[held.folder] -= 1
    for chunk_id, held in lost.items():
        table.tombstone(chunk_id, held)
    fresh = not known.recipes and not known.chunks
    return Plan(table.arrow(), fresh, tuple(added), {i: held.folder for i, held in lost.items()}, kept, change)


def _unchanged(write: FileWrite, chunks: Sequence[StoredChunk], known: Known) -> list[bool]:
    """Which chunks stand in the table with the very tokens they have now: nothing within their reach changed."""
    same = [known.chunks.get(chunk.chunk_id) == _held(chunk) for chunk in chunks]
    if not any(write.reach):
        return same
    path, ids = escape(write.row.path), {chunk.chunk_id for chunk in chunks}
    gone = {held.ordinal for key, held in known.chunks.items() if key not in ids and held.path == path}

    def alone(at: int, reach: int) -> bool:
        place = chunks[at].ordinal
        near = range(max(0, place - reach), place + reach + 1)  # below 0 are no chunks
        return all(same[max(0, at - reach) : at + reach + 1]) and gone.isdisjoint(near)

    return [kept and alone(at, reach) for at, (kept, reach) in enumerate(zip(same, write.reach, strict=True))]


def _held(chunk: StoredChunk) -> Held:
    """What the table would hold of a chunk that was written as it is."""
    return Held(escape(chunk.path), escape(chunk.folder), chunk.ordinal, chunk.locator, chunk.heading)


def file_rows(rows: Iterable[FileRow]) -> Any:
    """File rows alone, as Arrow."""
    table = _Columns()
    for row in rows:
        table.file(row)
    return table.arrow()


class _Columns:
    """Rows of ``chunks`` being gathered; columns a row does not have are null."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def file(self, row: FileRow) -> None:
        fields = {name: getattr(row, name) for name in FILE_COLUMNS}
        fields["reason"] = clean(row.reason)
        fields |= {"path": escape(row.path), "folder": escape(row.folder)}
        name = escape(below(row.folder, row.path))
        self._rows.append({"chunk_id": file_id(row.path), "ordinal": FILE, "name": name, **fields})

    def chunk(self, chunk: StoredChunk, path: str, folder: str, tokens: str) -> None:
        self._rows.append(
            {
                "chunk_id": chunk.chunk_id,
                "path": path,
                "folder": folder,
                "name": escape(below(chunk.folder, chunk.path)),
                "ordinal": chunk.ordinal,
                "text": chunk.text,
                "heading": chunk.heading,
                "locator": chunk.locator,
                "text_hash": chunk.text_hash,
                "tokens": tokens,
            }
        )

    def tombstone(self, chunk_id: str, held: Held) -> None:
        self._rows.append({"chunk_id": chunk_id, "path": held.path, "folder": held.folder, "ordinal": TOMBSTONE})

    def arrow(self) -> Any:
        import pyarrow as pa  # noqa: PLC0415

        return pa.Table.from_pylist(self._rows, schema=chunks_schema())


def known_from(rows: Any) -> Known:
    """What the table holds of a batch's files, from its rows (see ``chunks.KNOWN``)."""
    recipes: dict[str, tuple[str, str]] = {}
    chunks: dict[str, Held] = {}
    names = ("chunk_id", "path", "folder", "ordinal", "locator", "heading", "parser", "recipe")
    for chunk_id, path, folder, ordinal, locator, heading, parser, recipe in _tuples(rows, names):
        if ordinal == FILE:
            recipes[path] = (parser, recipe)
        else:
            chunks[chunk_id] = Held(path, folder, ordinal, locator or "", heading or "")
    return Known(recipes, chunks)


def to_chunks(rows: Any) -> list[StoredChunk]:
    """Arrow rows with ``CHUNK_COLUMNS`` as frozen data, paths as the file system has them."""
    return [
        StoredChunk(chunk_id, unescape(path), unescape(folder), *rest)
        for chunk_id, path, folder, *rest in _tuples(rows, CHUNK_COLUMNS)
    ]


def to_files(rows: Any) -> list[FileRow]:
    """Arrow rows with ``FILE_COLUMNS`` as the manifest; equal strings are one object."""
    folders: dict[str, str] = {}
    out = []
    for path, folder, *rest in _tuples(rows, [name for name in FILE_COLUMNS if name in rows.column_names]):
        out.append(FileRow(unescape(path), folders.setdefault(folder, unescape(folder)), *rest))
    return out


def _tuples(rows: Any, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows.column(name).to_pylist() for name in names), strict=True)
