"""Two tables (text, vectors) against one table with a vector column: what each costs. See docs/decisions/0003.

    python benchmarks/store_layout.py [--rows 100000] [--dim 384]

Text is twelve-line windows of the Python files below ``sys.prefix`` and of the standard library; vectors are drawn
from 2,000 clusters. Prints min / p50 / CPU milliseconds a call, queries taken in turn, ten neighbours wanted.
"""

import argparse
import asyncio
import hashlib
import os
import re
import statistics
import sys
import sysconfig
import tempfile
import time
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("LANCEDB_LOG", "error")
import lancedb
import numpy as np
import pyarrow as pa
from lancedb.expr import col
from lancedb.index import FTS, BTree, IvfRq
from lancedb.query import MatchQuery

BATCH = 2000
TEXT = [pa.field("chunk_id", pa.string(), False)] + [pa.field(n, pa.string()) for n in ("path", "text", "tokens")]
WORDS = FTS(base_tokenizer="whitespace", stem=False, remove_stop_words=False, lower_case=False, ascii_folding=False)


def windows(rows):
    places = [Path(sysconfig.get_path("stdlib")), Path(sys.prefix)]
    for file in (f for place in places for f in sorted(place.rglob("*.py"))):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        for at in range(0, len(lines), 12):
            text = "\n".join(lines[at : at + 12])
            key = hashlib.blake2b(f"{file}\0{at}".encode(), digest_size=16).hexdigest()
            yield key, str(file), text, " ".join(re.findall(r"\w+", text.lower()))
            rows -= 1
            if not rows:
                return


def clusters(n, dim, rng):
    centres = rng.standard_normal((2000, 64)) @ rng.standard_normal((64, dim))
    out = centres[rng.integers(0, 2000, n)] + 3.0 * rng.standard_normal((n, dim))
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def vectors(matrix):
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


async def timed(label, calls):
    wall, cpu = [], []
    for call in calls:
        a, c = time.perf_counter(), time.process_time()
        await call()
        wall.append(1e3 * (time.perf_counter() - a))
        cpu.append(1e3 * (time.process_time() - c))
    print(f"{label:52s} {min(wall):8.1f} {statistics.median(wall):8.1f} {statistics.median(cpu):8.1f}", flush=True)


def nearest(table, vector, columns):
    query = table.query().nearest_to(vector).distance_type("cosine").nprobes(20).refine_factor(4)
    return query.limit(40).select([*columns, "_distance"])


async def joined(vec, text, vector):
    found = (await nearest(vec, vector, ["chunk_id"]).to_arrow())["chunk_id"].to_pylist()
    rows = text.query().where(col("chunk_id").isin(found)).select(["chunk_id", "path", "text"])
    return await rows.to_arrow()


def words(table, text):
    query = table.query().nearest_to_text(MatchQuery(text, "tokens"))
    return query.select(["chunk_id", "path", "text", "_score"]).limit(40).to_arrow()


def merge(table, rows):
    return table.merge_insert("chunk_id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


async def build(db, data, matrix, dim):
    """Text of all rows first (keyword first), then vectors for all but the last 10,000 rows, then maintenance."""
    split = len(data) - 10_000
    wide = pa.schema([*TEXT, pa.field("vector", pa.list_(pa.float32(), dim))])
    one = await db.create_table("one", schema=wide)
    text = await db.create_table("text", schema=pa.schema(TEXT))
    vec = await db.create_table("vec", schema=pa.schema([TEXT[0], wide.field("vector")]))
    for table in (one, text, vec):
        await table.create_index("chunk_id", config=BTree())
    empty = pa.nulls(len(data), wide.field("vector").type)
    await one.add(data.append_column("vector", empty))
    await text.add(data)
    for table in (one, text):
        await table.create_index("tokens", config=WORDS)
        await table.optimize()
    cuts = range(0, split, BATCH)
    full = data.append_column("vector", vectors(matrix))
    ids = full.select(["chunk_id", "vector"])
    await timed("2,000 vectors arrive: one table (merge)", [lambda c=c: merge(one, full[c : c + BATCH]) for c in cuts])
    await timed("2,000 vectors arrive: two tables (append)", [lambda c=c: vec.add(ids[c : c + BATCH]) for c in cuts])
    for name, table in (("one table", one), ("vectors table", vec)):
        await timed(f"vector index built: {name}", [lambda t=table: t.create_index("vector", config=IvfRq("cosine"))])
        await timed(f"optimize after all vectors: {name}", [table.optimize])
    return one, text, vec, full, ids, split


async def main(rows, dim, directory):
    rng = np.random.default_rng(7)
    data = pa.table(list(zip(*windows(rows), strict=True)), schema=pa.schema(TEXT))
    matrix, asked = clusters(len(data), dim, rng), clusters(30, dim, rng)
    print(f"{len(data)} rows, {dim} dimensions, lancedb {lancedb.__version__}, {os.cpu_count()} processors")
    print(f"{'':52s} {'min':>8s} {'p50':>8s} {'CPU':>8s}")
    session = lancedb.Session(512 << 20, 64 << 20)
    db = await lancedb.connect_async(directory, read_consistency_interval=timedelta(0), session=session)
    one, text, vec, full, ids, split = await build(db, data, matrix, dim)
    terms = ["readline buffer", "socket timeout error", "parse json file", "unicode decode"] * 8

    async def searches(when):
        columns = ["chunk_id", "path", "text"]
        await timed(f"{when}: vector, one table", [lambda v=v: nearest(one, v, columns).to_arrow() for v in asked])
        await timed(f"{when}: vector, two tables", [lambda v=v: joined(vec, text, v) for v in asked])
        await timed(f"{when}: words, one table", [lambda t=t: words(one, t) for t in terms])
        await timed(f"{when}: words, two tables", [lambda t=t: words(text, t) for t in terms])

    await searches("all indexed")
    for at in range(split, len(data), BATCH):
        await merge(one, full[at : at + BATCH])
        await vec.add(ids[at : at + BATCH])
    await searches("10,000 vectors just arrived")
    await timed("optimize after 10,000 vectors: one table", [one.optimize])
    await timed("optimize after 10,000 vectors: two tables", [vec.optimize])
    for name in ("one", "text", "vec"):
        size = sum(f.stat().st_size for f in Path(directory, f"{name}.lance").rglob("*") if f.is_file())
        print(f"{name}: {size / 1e6:.0f} MB on disk with the versions not yet cleaned up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(options.rows, options.dim, place))
