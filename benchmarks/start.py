"""From the start of a process to its first answers, as a client over stdio sees them.

    python benchmarks/start.py [--files 5000] [--rounds 3] [--runtimes onnx,torch]

Each round starts ``folder-mcp serve FOLDER`` on an empty data directory and a folder of generated notes (60 words
each), and measures from the launch to the answers of ``initialize`` and ``tools/list``, to the first hits by word, and
to the first hits by meaning (with ``--runtimes`` torch too, which imports torch). Cold: the system's page cache was
emptied first (root on Linux; otherwise there are no cold rows). Then a second start of the same, whose index is
there already, and a second client beside the first.

``first hits after the store library is imported``: in a process that has imported it, from opening the engine on an
empty data directory to the first hits by word.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import anyio
import notes
import report
from relays import Client, Home

MODEL = """[model]
offline = true
runtime = "{runtime}"
"""
PAUSE = 0.02
"""Seconds between two questions to a server that has no hits yet."""


def until(client: Client, mode: str, leg: str, limit: float = 300.0) -> float:
    """Ask until a hit was found by this leg; returns when (monotonic)."""
    stop = time.monotonic() + limit
    while time.monotonic() < stop:
        answer = client.tool("search", query=notes.ASK, mode=mode)["result"]
        hits = [] if answer.get("isError") else answer["structuredContent"]["hits"]
        if any(leg in hit["matched"] for hit in hits):
            return time.monotonic()
        time.sleep(PAUSE)
    raise SystemExit(f"no hits by {leg} within {limit:.0f} s")


def one(home: Home, *, semantic: bool, status: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, float]:
    """Start a client and note when it got what, seconds from its launch."""
    began = time.monotonic()
    client = home.client(str(home.notes))
    client.initialize()
    hello = time.monotonic()
    client.ask("tools/list")
    listed = time.monotonic()
    found = {"initialize": hello - began, "tools/list": listed - began}
    found["first hit by word"] = until(client, "keyword", "keyword") - began
    if semantic:
        found["first hit by meaning"] = until(client, "semantic", "semantic") - began
    status(client.status())
    return found


def ended(home: Home) -> None:
    """Let clients and owner end properly, so that the next one starts on a whole index."""
    for client in home.clients:
        client.close()
    home.clients.clear()
    home.command("stop")


def rounds(folder: Path, runtime: str, count: int, cold: bool) -> dict[str, dict[str, list[float]]]:
    """All rounds of one runtime: what was started, what came, and after how many seconds."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(what: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            found.setdefault(what, {}).setdefault(name, []).append(value)
        print(f"{runtime}, {what}: " + ", ".join(f"{k} {v:.2f} s" for k, v in figures.items()), flush=True)

    for _ in range(count):
        for state in ("cold", "warm") if cold else ("warm",):
            with tempfile.TemporaryDirectory(prefix="start-") as base:
                home = Home(Path(base))
                home.config.write_text(MODEL.format(runtime=runtime), encoding="utf-8")
                shutil.rmtree(home.notes)
                home.notes = folder
                try:
                    if state == "cold":
                        report.drop_page_cache()
                    note(f"{state}, fresh folder", one(home, semantic=True))
                    note("warm, second client", one(home, semantic=True))
                    ended(home)
                    if state == "cold":
                        report.drop_page_cache()
                    note(f"{state}, index there", one(home, semantic=True))
                finally:
                    home.close()
    return found


async def imported(folder: Path, data: Path) -> dict[str, float]:
    """First hits by word in a process that has the store library: from opening the engine."""
    from indexer.config import load_config
    from indexer.engine import open_engine
    from indexer.errors import QueryError
    from indexer.store.resources import prepare_process
    from indexer.types import Query

    before = time.monotonic()
    prepare_process()
    import indexer.store.store  # noqa: F401

    began = time.monotonic()
    async with open_engine(load_config(None, data_dir=data, environ={}), version="benchmark") as engine:
        await engine.add_folder(str(folder))
        while True:
            try:
                answer = await engine.search(Query(notes.ASK, mode="keyword"))
            except QueryError:
                continue
            if answer.hits:
                return {"import_s": began - before, "first_hit_s": time.monotonic() - began}
            await anyio.sleep(PAUSE)


def main() -> None:
    if sys.argv[1:2] == ["--imported"]:
        print(json.dumps(anyio.run(imported, Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtimes", default="onnx,torch")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="start-files-") as made:
        folder = Path(made).resolve()
        notes.plant(folder, options.files)
        cold = report.drop_page_cache()
        after: list[dict[str, float]] = []
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory(prefix="start-data-") as data:
                command = [sys.executable, __file__, "--imported", folder, Path(data, str(number))]
                after.append(report.run(command).said)
                print(f"after the import: first hit by word {after[-1]['first_hit_s']:.2f} s", flush=True)
        found = {name: rounds(folder, name, options.rounds, cold) for name in options.runtimes.split(",")}
    rows = [
        {"runtime": runtime, "start": what, **{name: report.spread(values, 2) for name, values in figures.items()}}
        for runtime, kinds in found.items()
        for what, figures in kinds.items()
    ]
    imports = {key: report.spread([each[key] for each in after], 2) for key in after[0]}
    print(report.table(rows))
    print(f"first hit by word after the store library is imported: {report.shown(imports['first_hit_s'])} s")
    figures = {"files": options.files, "cold_rows": cold, "after_the_import_of_the_store": imports, "rows": rows}
    report.keep("start", figures, load)


if __name__ == "__main__":
    main()
