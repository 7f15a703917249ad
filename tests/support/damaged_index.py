"""Indexes damaged file by file and mended, in a process of its own: some damage makes the storage library abort it.

    python tests/support/damaged_index.py ORIGINAL EXPECTED WAY SCRATCH [START]

Damages each kind of file of a copy of ORIGINAL, before it is opened and while it is open in turn, has it mended, and
compares what is then in it with EXPECTED (JSON). Says the number of each file before it begins. With START it begins
with the copy that a process before it died of, which must open now.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import anyio
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreError
from indexer.store.store import Store, open_store
from indexer.types import FileWrite, Scope

Contents = tuple[list[tuple[str, int]], list[str], list[list[str]], list[str]]
WORDS = ["word3", "para1", "again", "word7"]


def files() -> list[FileWrite]:
    """The folder, as it is parsed."""
    return [written(f"{n}.md", *(f"word{n} para{k} again " + "filler " * 30 for k in range(4))) for n in range(20)]


async def fill(store: Store) -> None:
    """Make the index say what the folder says, as the passes do: text that is not there, then vectors."""
    there = {row.path for row in await store.files()}
    gone = sorted(there - {write.row.path for write in files()})
    await store.remove(gone)
    await store.replace([write for write in files() if write.row.path not in there])
    while chunks := await store.pending("m", DIM, FOLDER, 30):
        await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])


async def contents(store: Store) -> Contents:
    """Files, chunks, what searches find, and what has a vector."""
    rows = sorted((row.path, row.chunks) for row in await store.files())
    texts = [f"{c.chunk_id} {c.locator} {c.text}" for path, _ in rows for c in await store.chunks_of(path)]
    found = [sorted(hit.chunk.chunk_id for hit in await store.search_text([word], Scope(), 100)) for word in WORDS]
    near = [
        hit.chunk.chunk_id
        for text in ("word3 para1", "word9 para2")
        for hit in await store.search_vectors("m", DIM, vectors_of([text])[0], Scope(), 1)
    ]
    assert store.pending_count("m", FOLDER) == 0
    assert await store.pending("m", DIM, FOLDER) == []
    return rows, texts, found, near


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path, seed: int = 0) -> None:
    """Eight bytes changed here and there."""
    data, dice = bytearray(file.read_bytes()), random.Random(f"{file.name} {seed}")
    for _ in range(8 if data else 0):
        data[dice.randrange(len(data))] ^= 0xFF
    file.write_bytes(data)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def deleted(file: Path) -> None:
    file.unlink()


WAYS = [truncated, emptied, flipped, zeroed, deleted]


async def recover(store: Store) -> None:
    """What the engine does: damage that is met, or found by verifying, is mended; the folder is read again."""
    for _ in range(4):
        try:
            await fill(store)
            await store.maintain(force=True)
            await contents(store)
        except StoreError as error:
            assert error.code in ("damaged", "internal"), error
            assert store.health.damage_suspected.is_set(), error
        if not store.health.damage_suspected.is_set():
            return
        await store.repair()
    raise AssertionError(f"not mended: {store.damage}")


def one_of_each(place: Path) -> list[Path]:
    """A file of every kind, the newest: data, deletions, manifests, transactions, hints, the parts of each index."""
    found = {}
    files = sorted((p for p in (place / "tables").rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    for file in files:
        table, room, *_ = file.relative_to(place / "tables").parts
        name = file.name if room == "_indices" or file.suffix == ".json" else file.suffix
        found[table[0], room, name] = file.relative_to(place)
    return [file for _, file in sorted(found.items())]


async def damage_each(original: Path, expected: Contents, way: str, scratch: Path, start: int | None) -> None:
    names, damage = one_of_each(original), {each.__name__: each for each in WAYS}[way]
    for number, name in enumerate(names):
        place, running = scratch / str(number), bool((number + WAYS.index(damage)) % 2)
        if start is not None and number < start:
            continue
        print(number, flush=True)
        if number != start:
            shutil.copytree(original, place, copy_function=shutil.copy2)
        if not running and number != start:
            damage(place / name)
        async with open_store(place) as store:
            store.maintenance.exact = 50
            if running and number != start:
                assert len(await store.search_text(["again"], Scope(), 5)) == 5
                damage(place / name)
            await store.verify(force=True)
            await recover(store)
            assert await contents(store) == expected, (name, store.damage)
        shutil.rmtree(place)


if __name__ == "__main__":
    what, meant, how, where, *begin = sys.argv[1:]
    rows, texts, found, near = json.loads(Path(meant).read_text(encoding="utf-8"))
    wanted: Contents = [(path, count) for path, count in rows], texts, found, near
    anyio.run(damage_each, Path(what), wanted, how, Path(where), int(begin[0]) if begin else None)
