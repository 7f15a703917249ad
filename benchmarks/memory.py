"""Memory of the process that does the work: idle, model loaded, after the unload, over ten cycles, and under edits.

    python benchmarks/memory.py [--cycles 10] [--minutes 3] [--edits-a-minute 200] [--files 300] [--runtime onnx]

One process with the real engine, the real default model and the watcher, over generated notes; this process watches
it from outside. "Anonymous" is what only it has (the heap; weights that are mapped from their file are not in it),
"PSS" is what it and its parsers cost the machine. A cycle: search (loads the model), warm window over, unloaded.
Then edits: files are rewritten at the rate given while a client searches four times a second, for so many minutes. An
hour of an eager writer, 200 edits, is compressed into a minute: this is said, not hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import anyio
import notes
import report

from indexer.config import load_config
from indexer.engine import Engine, open_engine
from indexer.status_types import Status
from indexer.types import Query


def own() -> dict[str, float]:
    """This process now, MiB: anonymous, resident, and PSS with its parsers."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {
        "anonymous": int(fields["RssAnon"].split()[0]) / 1024,
        "resident": int(fields["VmRSS"].split()[0]) / 1024,
        "pss_of_all": report.memory_of(os.getpid()),
        "threads": float(fields["Threads"]),
        "files_open": float(len(os.listdir("/proc/self/fd"))),
    }


async def until(engine: Engine, state: str) -> Status:
    async for status in engine.watch(at_most_every=0.05):
        if status.slot.state == state:
            return status
    raise AssertionError("the engine ended")


def say(what: str, **more: Any) -> None:
    figures = {key: round(value, 1) for key, value in own().items()}
    print(json.dumps({"what": what, **figures, **more}), flush=True)


async def child(folder: Path, data: Path, options: argparse.Namespace) -> None:
    config = load_config(None, data_dir=data, environ={})
    config = replace(
        config,
        slot=replace(config.slot, keep_warm=2.0),
        model=replace(config.model, runtime=options.runtime),
        search=replace(config.search, wait=300.0),
    )
    async with open_engine(config, version="benchmark") as engine:
        await engine.add_folder(str(folder))
        await engine.index()
        await until(engine, "idle")
        await anyio.sleep(3)  # maintenance, if any, begins when all is quiet
        say("indexed, idle")
        for cycle in range(options.cycles):
            await engine.search(Query(f"harbour {cycle}", mode="hybrid"))
            say("loaded", cycle=cycle)
            await until(engine, "idle")
            say("unloaded", cycle=cycle)
        await edits(engine, folder, options)
        await engine.index()
        await until(engine, "idle")
        await anyio.sleep(3)
        say("after the edits, idle")


async def edits(engine: Engine, folder: Path, options: argparse.Namespace) -> None:
    """Rewrite files and search until the time is over; say what it has come to every few seconds."""
    paths, words, chance = sorted(folder.rglob("*.md")), notes.vocabulary(), random.Random(1)
    began, made, asked = time.monotonic(), 0, 0
    end = began + options.minutes * 60

    async def search() -> None:
        nonlocal asked
        while time.monotonic() < end:
            await engine.search(Query(" ".join(chance.choices(words, k=3)), mode="hybrid"))
            asked += 1
            await anyio.sleep(0.25)

    async def mark() -> None:
        while time.monotonic() < end:
            await anyio.sleep(min(5.0, options.minutes * 6))
            disk = sum(f.stat().st_size for f in (engine.config.data_dir / "index").rglob("*") if f.is_file())
            say("edits", at_s=round(time.monotonic() - began, 1), edits=made, searches=asked, disk_MiB=disk // 2**20)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search)
        tasks.start_soon(mark)
        while time.monotonic() < end:
            text = notes.text(chance.randrange(10**6), words, 60)
            await anyio.to_thread.run_sync(chance.choice(paths).write_text, text)
            made += 1
            await anyio.sleep(60 / options.edits_a_minute)


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The marks as rows: what, and the memory there."""
    found = []
    for what in ("indexed, idle", "loaded", "unloaded", "edits", "after the edits, idle"):
        some = [line for line in lines if line["what"] == what]
        if not some:
            continue
        row: dict[str, Any] = {"what": what}
        for key in ("anonymous", "resident", "pss_of_all", "threads", "files_open"):
            values = [line[key] for line in some]
            row |= {key: report.spread(values, 1), f"{key} first": values[0], f"{key} last": values[-1]}
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--edits-a-minute", type=float, default=200.0)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--runtime", choices=("onnx", "torch"), default="onnx")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        anyio.run(child, *options.child, options)
        return
    load = os.getloadavg()[0]
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="memory-") as made:
        folder = Path(made).resolve() / "files"
        notes.plant(folder, options.files)
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(folder), str(Path(made, "data"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(json.loads(line))
                print(line, end="", flush=True)
    rows = summary(lines)
    columns = ("what", "anonymous first", "anonymous last", "anonymous", "pss_of_all", "threads", "files_open")
    print(report.table(rows, columns))
    report.keep("memory", {"files": options.files, "rows": rows, "marks": lines}, load)
    if process.returncode:
        raise SystemExit(process.returncode)


if __name__ == "__main__":
    main()
