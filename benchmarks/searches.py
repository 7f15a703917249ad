"""How long each stage of a search takes, cold and warm, against bare LanceDB and ripgrep: parts of ``scale.py``.

Texts are real ones recombined: a chunk is three paragraphs of this Python's standard library, drawn at random; 20
chunks a file, as files on disk. Vectors are the embedded model's of 300 real chunks, each with noise of 0.7 its
length (cosine 0.82 to its origin). Queries are the first words of other paragraphs. Cold: the first search after the
index was opened (its caches empty, the system's warm). CPU is that of this process, all threads; of the child for
ripgrep (grep where that is missing). "Bare" is what LanceDB itself takes for the same two queries: one after the
other for the ids, and both at once for the ids and for the columns that a hit needs. Recall@10 is of the vector leg
against the exact search of the same table.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("LANCEDB_LOG", "error")

import numpy as np
from report import percentiles

from indexer.folders.state import Folders
from indexer.indexing.manifest import Manifest
from indexer.search.fusion import SemanticRanking, fold, fuse, parse_query
from indexer.search.hits import check_files, make_hits, passages
from indexer.store.queries import partitions_to_search
from indexer.store.schema import CHUNK_COLUMNS, vectors_name
from indexer.store.store import Store, open_store
from indexer.text.tokens import tokens
from indexer.types import Chunk, FileRow, FileWrite, Locator, Query, Scope

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

    def rows(self) -> list[dict[str, Any]]:
        """A row a stage."""
        return [
            {
                "stage": stage,
                **percentiles([wall / 1000 for wall, _ in values]),
                "cpu_p50_ms": round(sorted(cpu for _, cpu in values)[len(values) // 2], 1),
            }
            for stage, values in self.stages.items()
        ]

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


def asked(held: Sequence[str], count: int) -> list[str]:
    """The first five to eight words of paragraphs that are in no chunk."""
    words = [re.findall(r"[A-Za-z]{3,}", text) for text in held]
    return [" ".join(found[: 5 + n % 4]) for n, found in enumerate(words)][:count]


async def search(
    store: Store, manifest: Manifest, root: Path, text: str, embed: Callable[[str], np.ndarray], times: Times
) -> None:
    """One search, stage by stage, with the parts that ``indexer.search.search`` uses (its two legs run at once)."""
    scope, query, total = Scope((str(root),)), Query(text, TOP_K), Clock(times)
    clock = Clock(times)
    question = parse_query(text)
    clock.lap("question")
    by_word = await store.search_text(question.tokens, scope, LIMIT)
    clock.lap("keyword leg")
    vector = await asyncio.to_thread(embed, text)
    clock.lap("query embedding")
    by_meaning = await store.search_vectors(KEY, DIM, vector, scope, LIMIT)
    clock.lap("vector leg")
    ranking = fold(fuse(by_word, [SemanticRanking(by_meaning)], question))
    page, _ = check_files(ranking, query, manifest, Folders(), lambda folder, path: None, manifest.version)
    make_hits(page, await passages(store, page, 0), question.tokens, query)
    clock.lap("fuse, fold, stat, snippet")
    total.lap("all, one after the other")


async def both(store: Store, manifest: Manifest, root: Path, text: str, vector: np.ndarray, times: Times) -> None:
    """What a search does beside embedding: both legs at once, then the rest."""
    scope, query, clock = Scope((str(root),)), Query(text, TOP_K), Clock(times)
    question = parse_query(text)
    legs = store.search_text(question.tokens, scope, LIMIT), store.search_vectors(KEY, DIM, vector, scope, LIMIT)
    by_word, by_meaning = await asyncio.gather(*legs)
    ranking = fold(fuse(by_word, [SemanticRanking(by_meaning)], question))
    page, _ = check_files(ranking, query, manifest, Folders(), lambda folder, path: None, manifest.version)
    make_hits(page, await passages(store, page, 0), question.tokens, query)
    clock.lap(WHOLE)


async def opened(place: Path) -> tuple[Any, Any]:
    """The two tables of an index, as LanceDB alone opens them."""
    import lancedb

    database = await lancedb.connect_async(str(place))
    return await database.open_table("chunks"), await database.open_table(vectors_name(KEY))


async def bare(tables: tuple[Any, Any], text: str, vector: np.ndarray, times: Times) -> float:
    """The same two queries through LanceDB alone; returns recall@10 of the vector query."""
    from lancedb.query import MatchQuery

    chunks, table = tables
    searched = partitions_to_search(await table.count_rows())  # as the program has it, with its four-fold refinement
    match = MatchQuery(" ".join(parse_query(text).tokens), "tokens")

    async def words(columns: list[str]) -> Any:
        return await chunks.query().nearest_to_text(match).select([*columns, "_score"]).limit(LIMIT).to_arrow()

    async def meaning() -> Any:
        found = table.query().nearest_to(vector).distance_type("cosine").nprobes(searched).refine_factor(4)
        return await found.select(["chunk_id", "_distance"]).limit(LIMIT).to_arrow()

    async def texts() -> Any:
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
    return len(right & set(found["chunk_id"].to_pylist()[:10])) / 10


def grep(root: Path, queries: Sequence[str], times: Times) -> None:
    ripgrep = shutil.which("rg")
    command = [ripgrep, "-il"] if ripgrep else ["grep", "-rilE"]
    for text in queries:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "|".join(text.split()), str(root)], stdout=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.add("ripgrep -il" if ripgrep else "grep -rilE", time.perf_counter() - began, cpu)


async def stages(place: Path, root: Path, queries: Sequence[str], embed: Embed) -> tuple[Times, Times, list[float]]:
    """Times of searches in the index at a place, cold and warm, with the rivals' among the warm; recalls."""
    cold, warm, recalls, few = Times(), Times(), list[float](), 5
    vectors = [embed(text) for text in queries]
    for text in queries[:few]:
        clock = Clock(cold)
        async with open_store(place, read_only=True) as store:
            manifest = Manifest(await store.files())
            clock.lap("open the index")
            await search(store, manifest, root, text, embed, cold)
    async with open_store(place, read_only=True) as store:
        manifest = Manifest(await store.files())
        for text in queries[:few]:
            await search(store, manifest, root, text, embed, Times())
        rival = await opened(place / "tables")
        for text, vector in zip(queries[:few], vectors[:few], strict=True):
            await bare(rival, text, vector, Times())
        for text in queries:
            await search(store, manifest, root, text, embed, warm)
        for text, vector in zip(queries, vectors, strict=True):  # in turns: the machine's speed drifts
            await both(store, manifest, root, text, vector, warm)
            recalls.append(await bare(rival, text, vector, warm))
    grep(root, queries[:10], warm)
    return cold, warm, recalls


def rss() -> int:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1_000_000


def peak() -> int:
    """The most of it so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000
