"""Very many small files: the walk, the first indexing, memory, and the first search by word.

    python benchmarks/many_files.py [--files 200000] [--walk-only]

The tree of notes of one line, a hundred a directory, is walked and indexed as it is and once more with a mebibyte of
patterns in its ignore file (short names, none of which is there). The whole program in a process of its own; the
weights are fake, since 200,000 texts take the model hours. ``--walk-only`` leaves the indexing out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT), str(Path(__file__).parent)]

import anyio
import report
from engines import settings
from fakes import FakeLoader

from indexer.engine import open_engine
from indexer.files.ignore import MAX_IGNORE_FILE, Ignore
from indexer.files.walk import walk
from indexer.types import Query

PER_DIRECTORY = 100


def plant(folder: Path, files: int) -> None:
    """Write notes of one line, a hundred a directory."""
    for number in range(files):
        directory = folder / f"d{number // 10_000:02}" / f"e{number // PER_DIRECTORY:04}"
        if number % PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"note{number:06}.md").write_text(f"note {number} of a harbour {number % 97}\n", encoding="utf-8")


def peak() -> float:
    """Most memory this process has had, MiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def walked(folder: Path) -> dict[str, Any]:
    """A walk with rules read anew, and what memory it added."""
    before, began, cpu = peak(), time.perf_counter(), time.process_time()
    count = sum(1 for _ in walk(str(folder), Ignore(str(folder))))
    return {
        "files": count,
        "walk_s": time.perf_counter() - began,
        "walk_cpu_s": time.process_time() - cpu,
        "walk_MiB": peak() - before,
    }


async def indexed(data: Path, folder: Path) -> dict[str, Any]:
    """Index the folder from nothing and search it."""
    began = time.perf_counter()
    async with open_engine(settings(data), version="benchmark", loader=FakeLoader()) as engine:
        await engine.add_folder(str(folder))
        done = await engine.index()
        took, began = time.perf_counter() - began, time.perf_counter()
        answer = await engine.search(Query("harbour 42", mode="keyword"))
        first, began = time.perf_counter() - began, time.perf_counter()
        await engine.search(Query("harbour 43", mode="keyword"))
        second, began = time.perf_counter() - began, time.perf_counter()
        await engine.index()
        again = time.perf_counter() - began
    figures = {"indexed": done.indexed, "index_s": took, "first_search_s": first, "hits": len(answer.hits)}
    return {**figures, "second_search_s": second, "unchanged_s": again, "peak_MiB": peak()}


def child(what: str, folder: Path) -> dict[str, Any]:
    """One measurement in a process of its own."""
    return report.run([sys.executable, __file__, "--child", what, folder], limit_s=7200).said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--walk-only", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        what, folder = chosen.child[0], Path(chosen.child[1])
        if what == "walk":
            print(json.dumps(walked(folder)))
        else:
            with tempfile.TemporaryDirectory(prefix="many-data-") as data:
                print(json.dumps(anyio.run(indexed, Path(data), folder)))
        return
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory(prefix="many-") as made:
        folder = Path(made).resolve() / "notes"
        plant(folder, chosen.files)
        for patterns in (0, (MAX_IGNORE_FILE - 10) // 8):
            if patterns:
                (folder / ".gitignore").write_text("".join(f"f{n:06}\n" for n in range(patterns)), encoding="utf-8")
            row = {"patterns": patterns, **child("walk", folder)}
            rows.append(row if chosen.walk_only else {**row, **child("index", folder)})
            print(report.table(rows[-1:]), flush=True)
    report.keep("many_files_walk" if chosen.walk_only else "many_files", {"rows": rows}, load)


if __name__ == "__main__":
    main()
