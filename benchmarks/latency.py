"""How long each stage of a search takes, cold and warm, against bare LanceDB queries and ripgrep in the same run.

    python benchmarks/latency.py [--chunks 10000] [--chunks 1000000 ...] [--queries 40] [--scratch DIR]

Texts are real ones recombined: a chunk is three paragraphs of this Python's standard library, drawn at random; 20
chunks a file, as files on disk. Vectors are the embedded model's of 300 real chunks, each with noise of 0.7 its
length (cosine 0.82 to its origin). Queries are the first words of other paragraphs. Cold: the first search after the
index was opened (its caches empty, the system's warm). CPU is that of this process, all threads; of the child for
ripgrep (grep where that is missing). "Bare" is what LanceDB itself takes for the same two queries: one after the
other for the ids, and both at once for the ids and for the columns that a hit needs. Recall@10 is of the vector leg
against the exact search of the same table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from indexer.model.embedder import embedding
from indexer.model.loading import RuntimeLoader
from indexer.model.specs import resolve
from indexer.passages import hits_of, passages
from indexer.store.opening import open_store
from indexer.store.schema import CHUNK_COLUMNS, vectors_name
from indexer.store.store import Store
from indexer.text.question import read_question
from indexer.text.words import tokens
from indexer.types import Chunk, FileRow, FileWrite, Scope

KEY, DIM, TOP_K = "bench", 384, 8
LIMIT = TOP_K * 5  # what a search of eight hits asks of each leg
PER_FILE, PARAGRAPHS, BATCH, REAL = 20, 3, 4_000, 300
POOL = 20_000
NOISE = 0.7
WHOLE, IDS, TEXTS = "search but its embedding", "bare LanceDB, both at once, ids", "bare LanceDB, both at once, texts"
Embed = Callable[[str], "np.ndarray"]


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

    def p50(self, stage: str) -> float:
        wall = sorted(w for w, _ in self.stages[stage])
        return wall[len(wall) // 2]


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


def paragraphs(rng: random.Random) -> list[str]:
    """Runs of lines of the standard library, 120 to 400 characters each."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            text = part.strip()
            if len(re.findall(r"[A-Za-z]{3,}", text)) >= 12:
                found.append(text[:400])
        if len(found) >= 5 * POOL:
            break
    rng.shuffle(found)
    return found[: POOL + 1_000]


def near(real: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors around real ones: float32 [count, dim], unit length."""
    noise = rng.standard_normal((count, DIM)).astype(np.float32)
    noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    found = real[rng.integers(0, len(real), count)] + noise
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def written(root: Path, chunks: int, pool: Sequence[str], rng: np.random.Generator) -> Iterator[FileWrite]:
    """Files on disk and as they go into the index; a paragraph's tokens are made once."""
    searched = [tokens(text, "", "", "en") for text in pool]
    for number in range(-(-chunks // PER_FILE)):
        path = root / f"{number % 100:02}" / f"{number:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = rng.integers(0, len(pool), (PER_FILE, PARAGRAPHS))
        texts = ["\n".join(pool[n] for n in row) for row in drawn]
        path.write_text("\n".join(texts), encoding="utf-8")
        stat = path.stat()
        row = FileRow(
            str(path), str(root), stat.st_size, stat.st_mtime_ns, "", "", "", "indexed", "", PER_FILE, 0, 0.0
        )
        parts = tuple(Chunk(n, text, "", Locator("lines", "", n + 1, n + 1)) for n, text in enumerate(texts))
        yield FileWrite(row, parts, tuple(" ".join(searched[n] for n in chosen) for chosen in drawn))


async def fill(store: Store, root: Path, chunks: int, pool: Sequence[str], real: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    batch: list[FileWrite] = []
    last = -(-chunks // PER_FILE)
    for number, write in enumerate(written(root, chunks, pool, rng), 1):
        batch.append(write)
        if len(batch) * PER_FILE >= BATCH or number == last:
            added = (await store.replace(batch)).added
            await store.add_vectors(KEY, DIM, [(added, near(real, len(added), rng))])
            batch = []
            if store.urgent():
                await store.maintain()
    began = time.perf_counter()
    await store.maintain(force=True)
    print(f"last maintenance: {time.perf_counter() - began:.0f} s", flush=True)


def asked(held: Sequence[str], count: int) -> list[str]:
    """The first five to eight words of paragraphs that are in no chunk."""
    words = [re.findall(r"[A-Za-z]{3,}", text) for text in held]
    return [" ".join(found[: 5 + n % 4]) for n, found in enumerate(words)][:count]


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
    page, _ = fresh(ranking, query, manifest, Folders(), lambda folder, path: None, manifest.turns)
    hits_of(page, await passages(store, page, 0), question.tokens, query)
    clock.lap("fuse, fold, stat, snippet")
    total.lap("all, one after the other")


async def both(store: Store, manifest: Manifest, root: Path, text: str, vector: np.ndarray, times: Times) -> None:
    """What a search does beside embedding: both legs at once, then the rest."""
    scope, query, clock = Scope((str(root),)), Query(text, TOP_K), Clock(times)
    question = read_question(text)
    legs = store.search_text(question.tokens, scope, LIMIT), store.search_vectors(KEY, DIM, vector, scope, LIMIT)
    by_word, by_meaning = await asyncio.gather(*legs)
    ranking = fold(fuse(by_word, [SemanticList(by_meaning)], question))
    page, _ = fresh(ranking, query, manifest, Folders(), lambda folder, path: None, manifest.turns)
    hits_of(page, await passages(store, page, 0), question.tokens, query)
    clock.lap(WHOLE)


async def bare(place: Path, queries: Sequence[str], vectors: Sequence[np.ndarray], times: Times) -> list[float]:
    """The same two queries through LanceDB alone; returns recall@10 of the vector query of each."""
    import lancedb
    from lancedb.query import MatchQuery

    database = await lancedb.connect_async(str(place))
    chunks, table = await database.open_table("chunks"), await database.open_table(vectors_name(KEY))
    large = await table.count_rows() > 200_000
    probes, refine = (50, 40) if large else (20, 40)
    recalls = []
    for text, vector in zip(queries, vectors, strict=True):
        match = MatchQuery(" ".join(read_question(text).tokens), "tokens")

        async def words(columns: list[str], match: MatchQuery = match) -> Any:
            return await chunks.query().nearest_to_text(match).select([*columns, "_score"]).limit(LIMIT).to_arrow()

        async def meaning(vector: np.ndarray = vector) -> Any:
            found = table.query().nearest_to(vector).distance_type("cosine").nprobes(probes).refine_factor(refine)
            return await found.select(["chunk_id", "_distance"]).limit(LIMIT).to_arrow()

        async def texts(meaning: Callable[[], Any] = meaning) -> Any:
            ids = "', '".join((await meaning())["chunk_id"].to_pylist())
            return await chunks.query().where(f"chunk_id IN ('{ids}')").select(list(CHUNK_COLUMNS)).to_arrow()

        clock = Clock(times)
        await words(["chunk_id"])
        clock.lap("bare LanceDB, words, ids")
        found = await meaning()
        clock.lap("bare LanceDB, vectors, ids")
        await asyncio.gather(words(["chunk_id"]), meaning())
        clock.lap(IDS)
        await asyncio.gather(words(list(CHUNK_COLUMNS)), texts())
        clock.lap(TEXTS)
        flat = table.query().nearest_to(vector).distance_type("cosine").bypass_vector_index()
        exact = await flat.select(["chunk_id", "_distance"]).limit(10).to_arrow()
        right = set(exact["chunk_id"].to_pylist())
        recalls.append(len(right & set(found["chunk_id"].to_pylist()[:10])) / 10)
    return recalls


def grep(root: Path, queries: Sequence[str], times: Times) -> None:
    ripgrep = shutil.which("rg")
    command = [ripgrep, "-il"] if ripgrep else ["grep", "-rilE"]
    for text in queries:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "|".join(text.split()), str(root)], stdout=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.add("ripgrep -il" if ripgrep else "grep -rilE", time.perf_counter() - began, cpu)


async def run(chunks: int, count: int, embed: Embed, pool: list[str], real: np.ndarray, scratch: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="latency-", dir=scratch) as made:
        root, place = Path(made) / "files", Path(made) / "index"
        began, cpu = time.perf_counter(), time.process_time()
        async with open_store(place) as store:
            await fill(store, root, chunks, pool[:POOL], real)
        filled = f"filled in {time.perf_counter() - began:.0f} s ({time.process_time() - cpu:.0f} s CPU)"
        disk = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        print(
            f"\n== {chunks:,} chunks, {filled}; index {disk / 1e6:,.0f} MB; memory {rss():,} MB, at most {peak():,} MB"
        )
        queries, cold, warm = asked(pool[POOL:], count), Times(), Times()
        vectors = [embed(text) for text in queries]
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
            for text, vector in zip(queries, vectors, strict=True):
                await both(store, manifest, root, text, vector, warm)
        cold.show("cold (first search after opening)")
        await bare(place / "tables", queries[:5], vectors[:5], Times())
        recalls = await bare(place / "tables", queries, vectors, warm)
        grep(root, queries[: min(count, 10)], warm)
        warm.show("warm")
        ours = warm.p50(WHOLE)
        ratios = f"{ours / warm.p50(TEXTS):.2f} with texts, {ours / warm.p50(IDS):.2f} with ids only"
        print(f"search / bare: {ratios}; recall@10 {sum(recalls) / len(recalls):.3f}; memory {rss():,} MB")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)


def rss() -> int:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1_000_000


def peak() -> int:
    """The most of it so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, action="append", help="sizes (10,000 and 100,000)")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--scratch", help="directory for files and index; a million chunks need 10 GB")
    parser.add_argument("--vectors", type=Path, help="FILE.npy to keep the real vectors in, for the next run")
    options = parser.parse_args()
    began, cpu = time.perf_counter(), time.process_time()
    spec = resolve("all-MiniLM-L6-v2", device="cpu")
    model = embedding(RuntimeLoader().load(spec, lambda stage, share: None, lambda: False))
    model.embed_query("warm")
    print(f"model: {time.perf_counter() - began:.1f} s to the first vector ({time.process_time() - cpu:.1f} s CPU)")
    pool = paragraphs(random.Random(0))
    if options.vectors and options.vectors.exists():
        real = np.load(options.vectors)
    else:
        drawn = np.random.default_rng(2).integers(0, POOL, (REAL, PARAGRAPHS))
        real = model.embed_passages(["\n".join(pool[n] for n in row) for row in drawn])
        if options.vectors:
            np.save(options.vectors, real)
    print(f"{len(pool):,} paragraphs, {REAL:,} real vectors: {time.perf_counter() - began:.0f} s", flush=True)
    try:
        for chunks in options.chunks or [10_000, 100_000]:
            asyncio.run(run(chunks, options.queries, model.embed_query, pool, real, options.scratch))
    finally:
        model.close()


if __name__ == "__main__":
    main()
