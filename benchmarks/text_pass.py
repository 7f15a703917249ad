"""A folder's first reading, without a model: ``python benchmarks/text_pass.py FOLDER``.

Prints when the first passage could be found by word, seconds until all could, processor seconds of the server's
process and of its parsers, runs of upkeep, and how long searches took meanwhile. On a busy machine only the processor
seconds say something.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import anyio
import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from fakes import FakeLoader

from indexer.config import load_config
from indexer.engine import Engine, open_engine
from indexer.types import Query

NO_MODEL = "no/model"
"""Not on this machine: the folder is indexed for search by word."""


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of its children, living and ended."""
    mine = os.times()
    living = 0.0
    for child in psutil.Process().children():
        try:
            living += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return mine.user + mine.system, mine.children_user + mine.children_system + living


async def ask(engine: Engine, took: list[float], first: list[float], began: float) -> None:
    while True:
        answer = await engine.search(Query("import test value name", mode="keyword"))
        if answer.hits:
            first.append(time.perf_counter() - began)
            took.append(answer.elapsed_ms)
        await anyio.sleep(0.5)


async def measure(folder: str) -> None:
    with tempfile.TemporaryDirectory() as data:
        config = load_config(None, data_dir=Path(data), environ={})
        config = replace(config, index=replace(config.index, watch=False), search=replace(config.search, wait=300.0))
        took: list[float] = []
        first: list[float] = []
        async with open_engine(config, version="benchmark", loader=FakeLoader()) as engine:
            await engine._wait_open()
            began, before = time.perf_counter(), cpu_seconds()
            await engine.add_folder(folder, model=NO_MODEL)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, engine, took, first, began)
                report = await engine.index([folder])
                tasks.cancel_scope.cancel()
            seconds, after = time.perf_counter() - began, cpu_seconds()
            maintenance = engine._components.store.maintenance if engine._components else None
            rows = engine._components.manifest.rows(folder).values() if engine._components else ()
            size = sum(row.size for row in rows if row.outcome == "indexed") / 1e6
            print(f"load {os.getloadavg()[0]:.0f}; {report.indexed} files, {report.chunks} passages, {size:.1f} MB")
            print(f"first hit {first[0]:.1f} s, all {seconds:.1f} s, {size / seconds:.2f} MB/s by the clock")
            print(f"processor: server {after[0] - before[0]:.1f} s, parsers {after[1] - before[1]:.1f} s")
            print(f"maintenance runs {maintenance.runs if maintenance else 0}")
            high = sorted(took)[int(0.95 * (len(took) - 1))]
            print(
                f"keyword searches meanwhile: n {len(took)}, p50 {statistics.median(took):.0f} ms, p95 {high:.0f} ms"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    anyio.run(measure, str(parser.parse_args().folder.resolve()))


if __name__ == "__main__":
    main()
