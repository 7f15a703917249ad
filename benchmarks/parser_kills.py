"""Parser processes killed at random while a folder is indexed: ``python benchmarks/parser_kills.py [--files 500]``.

Makes mail, web pages and workbooks, indexes them with a real engine (its model is a fake), and kills a parser
process again and again with SIGKILL. Afterwards every file must have an outcome, and a search
for each file's own word must find it, unless its row says why not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from documents import docx, xlsx
from fakes import FakeLoader

from indexer.config import load_config
from indexer.engine import Engine, open_engine
from indexer.types import Query


def word(number: int) -> str:
    return f"uniqueword{number:05d}"


def generate(folder: Path, count: int) -> None:
    """``count`` documents in four formats, each with a word of its own; every tenth is 90 kB of text."""
    for number in range(count):
        text = f"The body of message {number} holds {word(number)}. "
        text += "It goes on and on. " * (5_000 * (number % 10 == 0))
        kind = number % 4
        if kind == 0:
            (folder / f"{number}.eml").write_text(f"From: a@b.c\nSubject: {number}\n\n{text}\n", encoding="utf-8")
        elif kind == 1:
            (folder / f"{number}.html").write_text(f"<h1>{number}</h1><p>{text}</p>", encoding="utf-8")
        elif kind == 2:
            (folder / f"{number}.docx").write_bytes(docx([(1, f"Report {number}"), (0, text)]))
        else:
            (folder / f"{number}.xlsx").write_bytes(xlsx({"One": [["name", "text"], [str(number), text[:30_000]]]}))


async def kill_at_random(engine: Engine, kills: int, chance: random.Random, killed: list[float]) -> None:
    """Kill a ready process, busy or idle, at any moment."""
    while len(killed) < kills:
        await anyio.sleep(chance.uniform(0.0, 0.2))
        pool = engine.status().index.pool
        if pool is not None and pool.pids:
            try:
                os.kill(chance.choice(pool.pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append(time.perf_counter())


async def measure(files: int, kills: int, seed: int) -> int:
    chance, killed = random.Random(seed), list[float]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "folder")
        folder.mkdir()
        generate(folder, files)
        config = load_config(None, data_dir=Path(place, "data"), environ={})
        config = replace(config, index=replace(config.index, watch=False), search=replace(config.search, wait=120.0))
        began = time.perf_counter()
        async with open_engine(config, version="benchmark", loader=FakeLoader()) as engine:
            await engine.add_folder(str(folder))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_at_random, engine, kills, chance, killed)
                report = await engine.index()
                while len(killed) < kills:  # the folder was done first: have it read again
                    for path in folder.iterdir():
                        os.utime(path)
                    report = await engine.index()
                tasks.cancel_scope.cancel()
            took = time.perf_counter() - began
            lost, unfound = await check(engine, folder)
        outcomes = Counter({"indexed": report.indexed, "skipped": report.skipped, "failed": report.failed})
        print(f"{files} files, {len(killed)} kills, {took:.1f} s: {dict(outcomes)}; lost {lost}, not found {unfound}")
        for problem in report.problems[:5]:
            print(f"  {Path(problem.path).name}: {problem.outcome}, {problem.attempts} attempts: {problem.reason}")
        return lost + unfound


async def check(engine: Engine, folder: Path) -> tuple[int, int]:
    """How many files have no outcome, and how many that count as indexed a search does not find."""
    status = engine.status(verbose=True).folders[0]
    problems = {problem.path for problem in status.problems}
    lost = len(list(folder.iterdir())) - status.files.indexed - status.files.skipped - status.files.failed
    unfound = 0
    for path in folder.iterdir():
        if str(path) not in problems:
            answer = await engine.search(Query(word(int(path.stem)), top_k=3, mode="keyword"))
            unfound += str(path) not in {hit.path for hit in answer.hits}
    return lost, unfound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    sys.exit(1 if anyio.run(measure, chosen.files, chosen.kills, chosen.seed) else 0)


if __name__ == "__main__":
    main()
