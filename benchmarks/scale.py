"""How cost grows with the index: one index filled to 10,000, 100,000 and 1,000,000 chunks, looked at each time.

    python benchmarks/scale.py [--to 100000] [--queries 30] [--scratch DIR]

Texts and vectors are those of ``searches.py``: real paragraphs recombined, vectors of real chunks with noise. So this
is the cost of the store, not of the model, of parsing or of cutting, which ``pipeline.py`` has. At each size: seconds
and CPU of the commits of text and of the appends of vectors since the size before, of the maintenance that became due
on the way and of a forced one at the end; the size on disk after that; memory; opening the index anew; a search but
its embedding, and the same two queries through LanceDB alone; recall@10 of the vector leg against the exact search;
each stage of a search. A million takes some 10 GB of disk and half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("LANCEDB_LOG", "error")

import numpy as np
import report
from searches import (
    BATCH,
    DIM,
    KEY,
    PARAGRAPHS,
    PER_FILE,
    POOL,
    REAL,
    TEXTS,
    WHOLE,
    Embed,
    asked,
    near,
    paragraphs,
    peak,
    rss,
    stages,
    written,
)

from indexer.models.loader import RuntimeLoader
from indexer.models.spec import resolve
from indexer.slot.embedder import as_embedder
from indexer.store.store import Store, open_store
from indexer.types import FileWrite

SIZES = (10_000, 100_000, 1_000_000)


@dataclass
class Spent:
    """Wall and CPU seconds by kind of work since the last size."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, wall: float, cpu: float) -> None:
        self.wall[kind] = self.wall.get(kind, 0.0) + time.perf_counter() - wall
        self.cpu[kind] = self.cpu.get(kind, 0.0) + time.process_time() - cpu


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def disk(place: Path) -> int:
    """Bytes of an index directory."""
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


async def grow(store: Store, files: Iterator[FileWrite], until: int, at: int, real: np.ndarray, spent: Spent) -> int:
    """Write files until the index has so many chunks; returns how many it has."""
    rng, batch = np.random.default_rng(at), list[FileWrite]()
    for write in files:
        batch.append(write)
        waiting = len(batch) * PER_FILE
        if waiting < BATCH and at + waiting < until:
            continue
        began = now()
        added = (await store.replace(batch)).added
        spent.add("text", *began)
        vectors = near(real, len(added), rng)
        began = now()
        await store.add_vectors(KEY, DIM, [(added, vectors)])
        spent.add("vectors", *began)
        at, batch = at + len(added), []
        if store.maintenance_urgent():
            began = now()
            await store.maintain()
            spent.add("maintenance due", *began)
        if at >= until:
            break
    began = now()
    await store.maintain(force=True)
    spent.add("maintenance forced", *began)
    return at


async def asking(place: Path, root: Path, queries: Sequence[str], embed: Embed) -> tuple[dict[str, Any], list[Any]]:
    """Figures of searches and of the bare queries, and a row for each stage."""
    cold, warm, recalls = await stages(place, root, queries, embed)
    found = {
        "open_ms": round(cold.p50("open the index")),
        "search_p50_ms": round(warm.p50(WHOLE), 1),
        "bare_p50_ms": round(warm.p50(TEXTS), 1),
        "search_over_bare": round(warm.p50(WHOLE) / warm.p50(TEXTS), 2),
        "recall@10": round(sum(recalls) / len(recalls), 3),
    }
    at = {"chunks": 0, "when": "cold"}
    return found, [at | row for row in cold.rows()] + [at | {"when": "warm"} | row for row in warm.rows()]


async def run(
    sizes: Sequence[int], queries: Sequence[str], embed: Embed, pool: list[str], real: np.ndarray, scratch: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One index through all sizes; a row for each, and one for each stage of a search in it."""
    rows, laps = list[dict[str, Any]](), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=scratch) as made:
        root, place = Path(made) / "files", Path(made) / "index"
        files, at = written(root, sizes[-1], pool[:POOL], np.random.default_rng(1)), 0
        for size in sizes:
            spent, before = Spent(), at
            async with open_store(place) as store:
                at = await grow(store, files, size, at, real, spent)
                memory = rss()
            figures, parts = await asking(place, root, queries, embed)
            laps += [part | {"chunks": at} for part in parts]
            new = max(1, at - before)
            rows.append({
                "chunks": at,
                "text_s": round(spent.wall["text"], 1),
                "vectors_s": round(spent.wall["vectors"], 1),
                "maintenance_due_s": round(spent.wall.get("maintenance due", 0.0), 1),
                "maintenance_forced_s": round(spent.wall["maintenance forced"], 1),
                "text_cpu_ms_a_chunk": round(spent.cpu["text"] / new * 1000, 3),
                "vectors_cpu_ms_a_chunk": round(spent.cpu["vectors"] / new * 1000, 3),
                "maintenance_cpu_ms_a_chunk": round(
                    (spent.cpu.get("maintenance due", 0.0) + spent.cpu["maintenance forced"]) / new * 1000, 3
                ),
                "disk_bytes_a_chunk": round(disk(place) / at),
                "rss_MB": memory,
                "peak_MB": peak(),
                **figures,
            })  # fmt: skip
            print(
                report.table(rows[-1:]), report.table(parts), f"load {os.getloadavg()[0]:.1f}", sep="\n\n", flush=True
            )
    return rows, laps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=int, default=100_000, help="the last size; 1000000 for all three")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--scratch", help="directory for files and index")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    spec = resolve("all-MiniLM-L6-v2", device="cpu")
    model = as_embedder(RuntimeLoader().load(spec, lambda *_: None, lambda: False))
    pool = paragraphs(random.Random(0))
    drawn = np.random.default_rng(2).integers(0, POOL, (REAL, PARAGRAPHS))
    real = model.embed_passages(["\n".join(pool[n] for n in row) for row in drawn])
    queries = asked(pool[POOL:], options.queries)
    sizes = [size for size in SIZES if size < options.to] + [options.to]
    try:
        rows, laps = asyncio.run(run(sizes, queries, model.embed_query, pool, real, options.scratch))
    finally:
        model.close()
    print(report.table(rows))
    report.keep("scale", {"rows": rows, "stages": laps, "queries": len(queries)}, load)


if __name__ == "__main__":
    main()
