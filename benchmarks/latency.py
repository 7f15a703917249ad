"""How long each stage of a search takes, cold and warm, against bare LanceDB queries and grep in the same run.

    python benchmarks/latency.py [--chunks 10000] [--chunks 100000 ...] [--queries 40]

Synthetic text: 90 words a chunk, drawn by Zipf's law from 20,000 words; 20 chunks a file, as files on disk. Vectors
are drawn from clusters. Cold: the first search after the index was opened (its caches empty, the system's warm). CPU
is that of this process, all threads; of the child for grep.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("LANCEDB_LOG", "error")

import numpy as np

from indexer.answer import Query
from indexer.folder import Folders
from indexer.folding import fold
from indexer.freshness import fresh
from indexer.fusion import SemanticList, fuse
from indexer.locator import Locator
from indexer.manifest import Manifest
from indexer.model.loading import RuntimeLoader
from indexer.model.specs import resolve
from indexer.passages import hits_of, passages
from indexer.store.opening import open_store
from indexer.store.schema import vectors_name
from indexer.store.store import Store
from indexer.text.question import read_question
from indexer.text.words import tokens
from indexer.types import Chunk, FileRow, FileWrite, Scope

KEY, DIM, TOP_K = "bench", 384, 8
LIMIT = TOP_K * 5  # what a search of eight hits asks of each leg
PER_FILE, WORDS, BATCH = 20, 90, 2_000
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


class Times:
    """Wall and CPU milliseconds by stage, in the order the stages were first seen."""

    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[float, float]]] = {}

    def add(self, stage: str, wall: float, cpu: float) -> None:
        self.stages.setdefault(stage, []).append((wall * 1000, cpu * 1000))

    def show(self, title: str) -> None:
        print(f"\n{title}\n{'stage':<34}{'p50':>9}{'p95':>9}{'CPU p50':>9}  ms, n")
        for stage, values in self.stages.items():
            wall, cpu = sorted(w for w, _ in values), sorted(c for _, c in values)
            at = [wall[min(len(wall) - 1, int(share * len(wall)))] for share in (0.5, 0.95)]
            print(f"{stage:<34}{at[0]:>9.1f}{at[1]:>9.1f}{cpu[len(cpu) // 2]:>9.1f}  {len(values)}", flush=True)


class Clock:
    """Time between two calls."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self.start()

    def start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, stage: str) -> None:
        self._times.add(stage, time.perf_counter() - self._wall, time.process_time() - self._cpu)
        self.start()


def vocabulary(rng: random.Random) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) + str(n % 7 or "") for n in range(20_000)]


def written(root: Path, chunks: int, words: Sequence[str], rng: np.random.Generator) -> Iterator[FileWrite]:
    """Files on disk and as they go into the index."""
    for number in range(-(-chunks // PER_FILE)):
        path = root / f"{number % 100:02}" / f"{number:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = np.minimum(rng.zipf(1.2, PER_FILE * WORDS), len(words)) - 1
        texts = [" ".join(words[n] for n in drawn[at : at + WORDS]) for at in range(0, len(drawn), WORDS)]
        path.write_text("\n".join(texts), encoding="utf-8")
        stat = path.stat()
        row = FileRow(
            str(path), str(root), stat.st_size, stat.st_mtime_ns, "", "", "", "indexed", "", PER_FILE, 0, 0.0
        )
        parts = tuple(Chunk(n, text, "", Locator("lines", "", n + 1, n + 1)) for n, text in enumerate(texts))
        yield FileWrite(row, parts, tuple(tokens(text, "", path.name, "") for text in texts))


async def fill(store: Store, root: Path, chunks: int, words: Sequence[str]) -> None:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((500, DIM))
    batch: list[FileWrite] = []
    files = list(range(-(-chunks // PER_FILE)))
    for number, write in enumerate(written(root, chunks, words, rng), 1):
        batch.append(write)
        if len(batch) * PER_FILE >= BATCH or number == len(files):
            added = (await store.replace(batch)).added
            matrix = centres[rng.integers(0, 500, len(added))] + 3 * rng.standard_normal((len(added), DIM))
            matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
            await store.add_vectors(KEY, DIM, [(added, matrix)])
            batch = []
    await store.maintain(force=True)


def asked(words: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Queries of four words, from frequent to rare."""
    return [" ".join(words[int(len(words) ** rng.random()) - 1] for _ in range(4)) for _ in range(count)]


async def search(
    store: Store, manifest: Manifest, root: Path, text: str, embed: Callable[[str], np.ndarray], times: Times
) -> None:
    """One search, stage by stage, with the parts that ``indexer.search`` uses (its two legs run at once)."""
    scope, query, total = Scope((str(root),)), Query(text, TOP_K), Clock(times)
    clock = Clock(times)
    question = read_question(text)
    clock.lap("question")
    by_word = await store.search_text(question.tokens, scope, LIMIT)
    clock.lap("keyword leg")
    vector = await asyncio.to_thread(embed, text)
    clock.lap("query embedding")
    by_meaning = await store.search_vectors(KEY, DIM, vector, scope, LIMIT)
    clock.lap("vector leg")
    ranking = fold(fuse(by_word, [SemanticList(by_meaning)], question))
    page, _ = fresh(ranking, query, manifest, Folders(), lambda folder, path: None)
    hits_of(page, await passages(store, page, 0), question.tokens, query)
    clock.lap("fuse, fold, stat, snippet")
    total.lap("all, one after the other")


async def bare(place: Path, queries: Sequence[str], vectors: Sequence[np.ndarray], times: Times) -> None:
    """The same two queries through LanceDB alone, ids only."""
    import lancedb
    from lancedb.query import MatchQuery

    database = await lancedb.connect_async(str(place))
    chunks, table = await database.open_table("chunks"), await database.open_table(vectors_name(KEY))
    for text, vector in zip(queries, vectors, strict=True):
        clock = Clock(times)
        words = chunks.query().nearest_to_text(MatchQuery(" ".join(read_question(text).tokens), "tokens"))
        await words.select(["chunk_id", "_score"]).limit(LIMIT).to_arrow()
        clock.lap("bare LanceDB, words")
        near = table.query().nearest_to(vector).distance_type("cosine").nprobes(20).refine_factor(4)
        await near.select(["chunk_id", "_distance"]).limit(LIMIT).to_arrow()
        clock.lap("bare LanceDB, vectors")


def grep(root: Path, queries: Sequence[str], times: Times) -> None:
    ripgrep = shutil.which("rg")
    command = [ripgrep, "-il"] if ripgrep else ["grep", "-rilE"]
    for text in queries:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "|".join(text.split()), str(root)], stdout=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.add("ripgrep -il" if ripgrep else "grep -rilE", time.perf_counter() - began, cpu)


async def run(chunks: int, count: int, embed: Callable[[str], np.ndarray]) -> None:
    with tempfile.TemporaryDirectory(prefix="latency-") as made:
        root, place = Path(made) / "files", Path(made) / "index"
        rng = random.Random(0)
        words = vocabulary(rng)
        began, cpu = time.perf_counter(), time.process_time()
        async with open_store(place) as store:
            await fill(store, root, chunks, words)
        filled = f"filled in {time.perf_counter() - began:.0f} s ({time.process_time() - cpu:.0f} s CPU)"
        print(f"\n== {chunks:,} chunks, {filled}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        queries, cold, warm = asked(words, count, rng), Times(), Times()
        for text in queries[:5]:
            clock = Clock(cold)
            async with open_store(place, read_only=True) as store:
                manifest = Manifest(await store.files())
                clock.lap("open the index")
                await search(store, manifest, root, text, embed, cold)
        async with open_store(place, read_only=True) as store:
            manifest = Manifest(await store.files())
            for text in queries[:5]:
                await search(store, manifest, root, text, embed, Times())
            for text in queries:
                await search(store, manifest, root, text, embed, warm)
        cold.show("cold (first search after opening)")
        await bare(place / "tables", queries[:5], [embed(text) for text in queries[:5]], Times())
        await bare(place / "tables", queries, [embed(text) for text in queries], warm)
        grep(root, queries[: min(count, 10)], warm)
        warm.show("warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, action="append", help="sizes (10,000 and 100,000)")
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    began, cpu = time.perf_counter(), time.process_time()
    embedder = RuntimeLoader().load(
        resolve("all-MiniLM-L6-v2", device="cpu"), lambda stage, share: None, lambda: False
    )
    embedder.embed_query("warm")
    print(f"model: {time.perf_counter() - began:.1f} s to the first vector ({time.process_time() - cpu:.1f} s CPU)")
    try:
        for chunks in options.chunks or [10_000, 100_000]:
            asyncio.run(run(chunks, options.queries, embedder.embed_query))
    finally:
        embedder.close()


if __name__ == "__main__":
    main()
