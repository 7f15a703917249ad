"""Broken and hostile files while searches go on: ``python benchmarks/hostile_files.py``.

Indexes a folder of ordinary text with a real engine (its model is a fake), asks it a keyword search every half
second, then adds a folder of broken and hostile files and goes on asking. Prints the outcome and the time of each
file and the latency of the searches before and meanwhile. Fails when a file has no outcome or ended the engine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from broken_files import make
from fakes import FakeLoader

from indexer.config import load_config
from indexer.documents.pool import Parsers
from indexer.engine import Engine, open_engine
from indexer.types import File, Query

NO_MODEL = "no/model"
"""Not on this machine: the folders are indexed for search by word, and no fake model takes the processor."""


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def watch_times(parsers: Parsers, times: dict[str, float]) -> None:
    """Note how long each file takes to be read and cut, waiting for its turn included."""

    def timed(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(file: File, *more: object) -> Any:
            began = time.perf_counter()
            try:
                return await call(file, *more)
            finally:
                took = time.perf_counter() - began
                times[file.path] = times.get(file.path, 0.0) + took
                sys.stderr.write(f"{took:6.2f} s  {ascii(Path(file.path).name)[:40]}\n")

        return asked

    parsers.parse = timed(parsers.parse)  # type: ignore[method-assign]
    parsers.prepare = timed(parsers.prepare)  # type: ignore[method-assign]


async def ask_now_and_then(engine: Engine, took: list[float], count: int | None = None) -> None:
    while count is None or len(took) < count:
        answer = await engine.search(Query(f"subject {len(took) % 50} walking", mode="keyword"))
        assert answer.hits
        took.append(answer.elapsed_ms)
        await anyio.sleep(0.5)


async def measure(idle: int, only: tuple[str, ...] = ()) -> int:
    with tempfile.TemporaryDirectory() as place:
        plain, hostile = Path(place, "plain"), Path(place, "hostile")
        plain.mkdir()
        hostile.mkdir()
        for number in range(200):
            lines = [f"Line {n} about subject {number % 50} and walking on." for n in range(100)]
            (plain / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
        names = [name for name in make(hostile) if name.startswith(only or "")]
        for path in hostile.iterdir():
            if path.name not in names and not path.is_dir():
                path.unlink()
        config = load_config(None, data_dir=Path(place, "data"), environ={})
        config = replace(config, index=replace(config.index, watch=False), search=replace(config.search, wait=120.0))
        before: list[float] = []
        during: list[float] = []
        times: dict[str, float] = {}
        async with open_engine(config, version="benchmark", loader=FakeLoader()) as engine:
            await engine.add_folder(str(plain), model=NO_MODEL)
            await engine.index()
            await ask_now_and_then(engine, before, idle)
            assert engine._components is not None
            watch_times(engine._components.parsers, times)
            began = time.perf_counter()
            await engine.add_folder(str(hostile), model=NO_MODEL)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask_now_and_then, engine, during)
                await engine.index([str(hostile)])
                tasks.cancel_scope.cancel()
            took = time.perf_counter() - began
            rows = dict(engine._components.manifest.rows(str(hostile)))
            pool = engine._components.parsers.status()
    print("| file | outcome | reason | s |\n|---|---|---|---|")
    missing = 0
    for name in sorted(names):
        row = rows.get(str(hostile / name))
        missing += row is None
        outcome, reason = (row.outcome, row.reason or f"{row.chunks} chunks") if row else ("NONE", "")
        print(f"| {ascii(name)[1:30]} | {outcome} | {reason[:90]} | {times.get(str(hostile / name), 0.0):.2f} |")
    print(f"\n{len(names)} files in {took:.1f} s; {pool.restarts} parsers replaced")
    print(f"without an outcome: {missing}")
    for what, values in (("before", before), ("meanwhile", during)):
        half, high = statistics.median(values), percentile(values, 0.95)
        print(
            f"keyword search {what}: n {len(values)}, p50 {half:.0f} ms, p95 {high:.0f} ms, max {max(values):.0f} ms"
        )
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=int, default=20, help="searches before")
    parser.add_argument("--only", nargs="*", default=[], help="files whose name begins so")
    chosen = parser.parse_args()
    sys.exit(1 if anyio.run(measure, chosen.idle, tuple(chosen.only)) else 0)


if __name__ == "__main__":
    main()
