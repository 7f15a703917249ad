"""What an index weighs under endless edits, ours with its maintenance and LanceDB left alone, and the process with it.

    python benchmarks/disk.py [--edits 10000] [--files 500] [--seconds-per-edit 0.36] [--samples 20]

Edits that would take an hour (0.36 s apart) are made one after the other. The hour is compressed by as much as the
first of them were faster, and so is the time for which old versions are kept (``KEEP``, two minutes); maintenance
runs whenever it is due at rest. An edit replaces one file of one to six
chunks, embeds what is new and, one time in ten, deletes a file and adds another. Fake vectors, real store.
"Left alone" is the same rows through the storage library's own ``add`` and ``delete``, never optimized.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "support"), str(HERE.parent), str(HERE)]

import numpy as np
import psutil
from index_data import FOLDER, written
from report import keep, table

from indexer.store.files_on_disk import tree_bytes
from indexer.store.maintenance import KEEP
from indexer.store.schema import KnownRows, plan_commit
from indexer.store.store import Store, open_store
from indexer.types import FileWrite, Matrix

DIM = 384
CALIBRATION = 100
"""Edits by which the compression of time is measured."""
WORDS = [f"word{number}" for number in range(5000)]


def text_of(dice: random.Random) -> str:
    return " ".join(dice.choices(WORDS, k=70))


def file_of(name: int, dice: random.Random) -> FileWrite:
    return written(f"{name}.md", *(text_of(dice) for _ in range(dice.randint(1, 6))))


def vectors(count: int, rng: np.random.Generator) -> Matrix:
    out = rng.standard_normal((count, DIM)).astype(np.float32)
    return out / np.linalg.norm(out, axis=1, keepdims=True)


async def embed(store: Store, chunks: Any, rng: np.random.Generator) -> None:
    if chunks:
        await store.add_vectors("m", DIM, [(chunks, vectors(len(chunks), rng))])


def live_bytes(store: Store) -> int:
    """What the rows would weigh as they are: text, tokens and vectors, without index or history."""
    return store.chunk_count(FOLDER) * (DIM * 4 + 2 * 560)


async def ours(place: Path, edits: int, files: int, samples: int, apart: float) -> dict[str, Any]:
    dice, rng, process = random.Random(1), np.random.default_rng(1), psutil.Process()
    found: dict[str, Any] = {"samples": []}
    async with open_store(place) as store:
        await store.replace([file_of(name, dice) for name in range(files)])
        await embed(store, await store.pending("m", DIM, FOLDER), rng)
        await store.maintain(force=True)
        names, fresh, spent, keep_s, started = list(range(files)), files, 0.0, 0.0, time.perf_counter()
        for number in range(1, edits + 1):
            if dice.random() < 0.1:
                await store.remove([f"{FOLDER}/{names.pop(dice.randrange(len(names)))}.md"])
                names.append(fresh)
                fresh += 1
                changed = names[-1]
            else:
                changed = dice.choice(names)
            done = await store.replace([file_of(changed, dice)])
            await embed(store, done.added, rng)
            if number == CALIBRATION:
                keep_s = KEEP.total_seconds() * (time.perf_counter() - started) / (number * apart)
                store.maintenance.keep = timedelta(seconds=keep_s)
            if store.maintenance_due():
                began = time.perf_counter()
                await store.maintain()
                spent += time.perf_counter() - began
            if number % (edits // samples) == 0:
                rss = process.memory_info().rss / 1e6
                sample = {"edits": number, "disk_mb": tree_bytes(place) / 1e6, "rss_mb": rss}
                found["samples"].append({**sample, "live_mb": live_bytes(store) / 1e6})
                print({name: round(value, 1) for name, value in found["samples"][-1].items()}, flush=True)
        found |= {"before_mb": tree_bytes(place) / 1e6, "live_mb": live_bytes(store) / 1e6}
        await asyncio.sleep(keep_s)
        await store.maintain(force=True)
        await asyncio.sleep(keep_s)
        await store.maintain(force=True)
        found |= {"after_mb": tree_bytes(place) / 1e6, "chunks": store.chunk_count(FOLDER), "maintenance_s": spent}
        found |= {
            "keep_s": keep_s,
            "longest_turn_s": store._tables.write_lock.longest_hold_s,
            "runs": store.maintenance.runs,
        }
    return found


async def alone(place: Path, edits: int, files: int) -> dict[str, Any]:
    """The same edits as LanceDB users make them: delete the file's rows, add the new ones."""
    import lancedb

    from indexer.store.schema import chunks_schema, vectors_schema

    dice, rng = random.Random(1), np.random.default_rng(1)
    database = await lancedb.connect_async(str(place))
    text = await database.create_table("chunks", schema=chunks_schema())
    meaning = await database.create_table("vectors", schema=vectors_schema("m", DIM))

    async def put(write: FileWrite) -> None:
        import pyarrow as pa

        rows = plan_commit([write], KnownRows({}, {})).rows
        await text.add(rows)
        chunks = rows.filter(pa.compute.greater_equal(rows["ordinal"], 0))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors(len(chunks), rng).ravel()), DIM)
        columns = [chunks[name] for name in ("chunk_id", "path", "folder", "name", "text_hash")]
        await meaning.add(pa.table([*columns, flat], schema=vectors_schema("m", DIM)))

    for name in range(files):
        await put(file_of(name, dice))
    for _ in range(edits):
        name = dice.randrange(files)
        await text.delete(f"path = '{FOLDER}/{name}.md'")
        await meaning.delete(f"path = '{FOLDER}/{name}.md'")
        await put(file_of(name, dice))
    live = await meaning.count_rows() * (DIM * 4 + 2 * 560)
    found = {"before_mb": tree_bytes(place) / 1e6, "live_mb": live / 1e6, "edits": edits}
    found["files"] = sum(len(names) for _, _, names in os.walk(place))
    return found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seconds-per-edit", type=float, default=0.36)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--alone", type=int, default=1000, help="edits left alone: each is slower than the one before")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="disk-") as place:
        left = await alone(Path(place, "alone"), chosen.alone, chosen.files)
        print({name: round(value, 1) for name, value in left.items()}, flush=True)
        with_us = await ours(Path(place, "ours"), chosen.edits, chosen.files, chosen.samples, chosen.seconds_per_edit)
    seconds = time.perf_counter() - began
    rows = [
        {"": f"folder-mcp, {chosen.edits} edits", **_row(with_us), "after": _times(with_us, "after_mb")},
        {"": f"LanceDB left alone, {chosen.alone} edits", **_row(left), "after": "-"},
    ]
    print(table(rows))
    figures = {"ours": with_us, "alone": left, "seconds": seconds, "settings": vars(chosen)}
    print(keep("disk", figures, load))


def _row(found: dict[str, Any]) -> dict[str, Any]:
    most = max((sample["disk_mb"] for sample in found.get("samples", ())), default=found["before_mb"])
    return {"live MB": round(found["live_mb"], 1), "most MB": round(most, 1), "at the end": _times(found, "before_mb")}


def _times(found: dict[str, Any], which: str) -> str:
    return f"{found[which]:.1f} MB, {found[which] / found['live_mb']:.1f} x"


if __name__ == "__main__":
    asyncio.run(main())
