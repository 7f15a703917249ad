"""How long a search takes with 1, 4 and 16 clients: at rest, while indexing, while maintaining, while models change.

    python benchmarks/clients.py [--files 300] [--searches 64] [--clients 1,4,16]

One engine with the real default model; a client is a task that asks again as soon as it is answered (a relay adds
about 2 ms: ``owner.py overhead``). The notes are generated (60 made-up words). Indexing: another folder is embedded
meanwhile; its micro-batches are what a search may have to wait for, so the p95 of those that ran beside the searches
stands there, as the model's thread had them. Maintenance: forced rounds one after the other. Models: half the searches
go to a folder with a second model of the same size, so each search of the other folder unloads one and loads the other
(what a search then waits for is a load). They ask for meaning alone; hybrid ones answer by word meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import anyio
import notes
import report
from pipeline import TimedLoader

from indexer.config import load_config
from indexer.engine import Engine, open_engine
from indexer.models.locate import Located, find
from indexer.types import Mode, Query, Scope

MODES: tuple[Mode, ...] = ("keyword", "hybrid")


def second_model(directory: Path) -> Path:
    """The default model under another name with a shorter window: other vectors, the same size and cost."""
    located = find("all-MiniLM-L6-v2")
    assert isinstance(located, Located)
    shutil.copytree(located.directory, directory)
    settings = directory / "sentence_bert_config.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text(encoding="utf-8")), "max_seq_length": 128}), encoding="utf-8"
    )
    return directory


async def asked(
    engine: Engine,
    loader: TimedLoader,
    clients: int,
    searches: int,
    mode: Mode,
    folders: Sequence[str],
    words: list[str],
) -> dict[str, Any]:
    """So many clients share so many searches; client ``n`` begins with folder ``n``."""
    took: list[float] = []
    served, jobs = 0, len(loader.jobs)

    async def client(first: int) -> None:
        nonlocal served
        for number in range(first, searches, clients):
            query = " ".join(words[(number * step + 11) % len(words)] for step in (3, 5, 7))
            scope = Scope((folders[number % len(folders)],))
            began = time.perf_counter()
            answer = await engine.search(Query(query, mode=mode, scope=scope))
            took.append(time.perf_counter() - began)
            served += mode == "keyword" or answer.semantic.status in ("served", "partial")

    cpu, began, everywhere = time.process_time(), time.perf_counter(), report.cpu_everywhere()
    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(client, number)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    batches = [end - begin for begin, end, _ in loader.jobs[jobs:]]
    return {
        "clients": clients,
        "mode": mode,
        **report.percentiles(took),
        "searches/s": round(len(took) / wall, 1),
        "served by meaning": f"{served}/{len(took)}" if mode != "keyword" else "",
        "micro-batch p95 ms": report.percentiles(batches)["p95_ms"] if batches else 0,
        "CPU ms a search": round(cpu / len(took) * 1000, 1),
        "others' CPU": round(max(0.0, report.cpu_everywhere() - everywhere - cpu) / wall, 2),
    }


@asynccontextmanager
async def indexing(engine: Engine, folder: Path) -> AsyncIterator[None]:
    """Another folder is being embedded."""
    await engine.add_folder(str(folder))
    async for status in engine.watch(at_most_every=0.05):
        if any(each.path == str(folder) and each.embedded for each in status.folders):
            break
    yield
    left = next(each for each in engine.status().folders if each.path == str(folder))
    print(f"still to embed when the searches ended: {left.chunks - left.embedded} of {left.chunks}", flush=True)
    if left.chunks == left.embedded:
        print("NOT MEASURED TO THE END: it had ended before the searches did; give more --busy files")
    await engine.remove_folder(str(folder))


@asynccontextmanager
async def maintaining(engine: Engine) -> AsyncIterator[None]:
    """Forced maintenance, round after round."""
    assert engine._components is not None
    store, rounds = engine._components.store, 0

    async def again() -> None:
        nonlocal rounds
        while True:
            await store.maintain(force=True)
            rounds += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        yield
        tasks.cancel_scope.cancel()
    print(f"rounds of maintenance meanwhile: {rounds}", flush=True)


async def measure(options: argparse.Namespace, base: Path) -> list[dict[str, Any]]:
    resting, busy, other = (base / name for name in ("resting", "busy", "other"))
    notes.plant(resting, options.files)
    for number, path in enumerate(notes.plant(busy, options.busy)):
        path.write_text(notes.text(10_000 + number, notes.vocabulary(seed=1), 60), encoding="utf-8")
    notes.plant(other, 20)
    words = notes.vocabulary()
    config = load_config(None, data_dir=base / "data", environ={})
    config = replace(config, index=replace(config.index, watch=False), search=replace(config.search, wait=120.0))
    rows: list[dict[str, Any]] = []
    counts = [int(each) for each in options.clients.split(",")]
    loader = TimedLoader()
    async with open_engine(config, version="benchmark", loader=loader) as engine:
        await engine.add_folder(str(resting))
        await engine.add_folder(str(other), str(second_model(base / "second")))
        await engine.index()  # before the first search: its warm window would make the second model wait

        async def phase(what: str, folders: Sequence[str], searches: int, modes: Sequence[Mode] = MODES) -> None:
            for mode in modes:
                await engine.search(Query(words[0], mode=mode))  # warm
                for count in counts:
                    rows.append({"while": what, **await asked(engine, loader, count, searches, mode, folders, words)})
                    print({k: v for k, v in rows[-1].items() if v != ""}, flush=True)

        here = [str(resting)]
        await phase("at rest", here, options.searches)
        async with indexing(engine, busy):
            await phase("indexing", here, options.searches)
        async with maintaining(engine):
            await phase("maintaining", here, options.searches)
        before = engine.status().slot.counters
        await phase("models change", [str(resting), str(other)], options.swaps, ("semantic",))
        counters = engine.status().slot.counters
        print(f"swaps: {counters.swaps - before.swaps}, loads: {counters.loads - before.loads}")
        await phase("at rest again", here, options.searches)
    return rows


def against_the_target(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """p95 during indexing against p95 at rest and one micro-batch."""
    found = []
    for row in rows:
        if row["while"] == "indexing":
            rest = next(
                r
                for r in rows
                if r["while"] == "at rest" and (r["clients"], r["mode"]) == (row["clients"], row["mode"])
            )
            bound = rest["p95_ms"] + row["micro-batch p95 ms"]
            found.append({
                "clients": row["clients"], "mode": row["mode"], "p95 indexing ms": row["p95_ms"],
                "p95 at rest ms": rest["p95_ms"], "micro-batch p95 ms": row["micro-batch p95 ms"],
                "bound ms": round(bound, 1), "holds": row["p95_ms"] <= bound,
            })  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--busy", type=int, default=3000, help="files of the folder that is embedded meanwhile")
    parser.add_argument("--searches", type=int, default=64)
    parser.add_argument("--swaps", type=int, default=16, help="searches while models change")
    parser.add_argument("--clients", default="1,4,16")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="clients-") as made:
        rows = anyio.run(measure, options, Path(made).resolve())
    target = against_the_target(rows)
    print(report.table(rows))
    print(report.table(target))
    report.keep("clients", {"corpus": f"{options.files} generated notes", "rows": rows, "target": target}, load)


if __name__ == "__main__":
    main()
