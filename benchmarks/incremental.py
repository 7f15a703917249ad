"""What a change costs: nothing changed, one file of 10,000, times touched, 1,000 renamed, a directory moved.

    python benchmarks/incremental.py [--files 10000] [--rounds 5]

Generated notes; real walk, parsers, chunks, tokenizer, store; the weights are fake (what is embedded is counted, not
waited for: the model would take 60 ms and more for each). "Nothing changed" is measured at 5,000 files and at
``--files``, each round beside a bare walk of the same tree (``os.scandir`` and ``stat``), in one process and as a
start of the whole program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import anyio
import notes
import report
from engines import settings
from fakes import FakeLoader
from unchanged import bare_walk

from indexer.engine import Engine, open_engine


async def again(engine: Engine) -> dict[str, Any]:
    """Index what is dirty and say what it took."""
    cpu, began = time.process_time(), time.perf_counter()
    done = await engine.index()
    took = time.perf_counter() - began
    work = asdict(done.work)
    return {"seconds": took, "cpu_s": time.process_time() - cpu, **work}


async def unchanged(engine: Engine, folder: Path, rounds: int) -> dict[str, Any]:
    """An index of an unchanged tree, and a bare walk, in turns."""
    ours, walks, read, cpu, bare_cpu = [], [], 0, [], []
    for _ in range(rounds):
        before = time.process_time()
        walks.append((await anyio.to_thread.run_sync(bare_walk, folder))[1])
        bare_cpu.append(time.process_time() - before)
        done = await again(engine)
        ours.append(done["seconds"])
        cpu.append(done["cpu_s"])
        read += done["files_read"]
    return {
        "seconds": report.spread(ours),
        "bare_walk_s": report.spread(walks),
        "times_the_bare_walk": report.spread([a / b for a, b in zip(ours, walks, strict=True)], 2),
        "times_the_bare_walk_cpu": report.spread([a / b for a, b in zip(cpu, bare_cpu, strict=True)], 2),
        "files_read": read,
    }


async def changes(engine: Engine, folder: Path, paths: list[Path]) -> dict[str, dict[str, Any]]:
    """One kind of change after the other."""
    found = {}
    target = paths[len(paths) // 2]
    target.write_text(target.read_text(encoding="utf-8") + "\none more line\n", encoding="utf-8")
    found["one file changed"] = await again(engine)
    thousand = paths[: min(1000, len(paths) // 4)]
    for path in thousand:
        os.utime(path)
    found[f"{len(thousand)} touched"] = await again(engine)
    for number, path in enumerate(thousand):
        path.rename(path.with_name(f"renamed{number:05}.md"))
    found[f"{len(thousand)} renamed"] = await again(engine)
    moved = thousand[: notes.PER_DIRECTORY * 10 : notes.PER_DIRECTORY]
    for path in moved:
        path.parent.rename(path.parent.with_name(f"moved-{path.parent.name}"))
    found[f"{len(moved)} directories of {notes.PER_DIRECTORY} moved"] = await again(engine)
    gone = paths[-min(500, len(paths) // 4) :]
    for path in gone:
        path.unlink()
    found[f"{len(gone)} deleted"] = await again(engine)
    return found


async def live(data: Path, folder: Path, files: int, rounds: int) -> dict[str, Any]:
    paths = await anyio.to_thread.run_sync(notes.plant, folder, files)
    config = settings(data)
    config = replace(config, search=replace(config.search, wait=300.0))
    async with open_engine(config, version="benchmark", loader=FakeLoader()) as engine:
        await engine.add_folder(str(folder))
        first = await again(engine)
        print(f"{files} files, first: {first['seconds']:.1f} s", flush=True)
        same = await unchanged(engine, folder, rounds)
        print(f"{files} files, unchanged: {report.shown(same['times_the_bare_walk'])} times a bare walk", flush=True)
        return {"first": first, "unchanged": same, "changes": await changes(engine, folder, paths)}


def as_a_process(data: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Start the whole indexing process on the index that is there: nothing has changed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"}
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        command = [sys.executable, str(ROOT / "tests" / "support" / "indexing_child.py"), str(data), str(folder)]
        subprocess.run(command, capture_output=True, check=True, env=environment)
        took.append(time.perf_counter() - began)
    return report.spread(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=5_000, help="files of the folder the target is stated for")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load, figures = os.getloadavg()[0], {}
    for files in (options.small, options.files):
        with tempfile.TemporaryDirectory(prefix="incremental-") as made:
            data, folder = Path(made, "data"), Path(made, "files")
            folder.mkdir()
            found = anyio.run(live, data, folder, files, options.rounds)
            found["unchanged_whole_process_s"] = as_a_process(data, folder, min(3, options.rounds))
            figures[f"{files} files"] = found
    for files, found in figures.items():
        print(f"\n{files}: first {found['first']['seconds']:.1f} s ({found['first']['cpu_s']:.1f} s CPU)")
        print(report.table([{"what": "nothing changed", **found["unchanged"]}]))
        print(report.table([{"what": what, **row} for what, row in found["changes"].items()]))
    report.keep("incremental", figures, load)


if __name__ == "__main__":
    main()
