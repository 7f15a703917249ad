"""What one owner for all clients costs and saves, measured with real processes.

    python benchmarks/owner.py clients      processes, libraries and memory for 1, 2, 4, 8, 16 clients; start to answer
    python benchmarks/owner.py kills        100 calls while the owner is killed between and during them
    python benchmarks/owner.py overhead     a call through the relay against the same call in one process
    python benchmarks/owner.py election     8 relays on a cold directory, 20 rounds

Needs Linux (/proc). ``--files N`` sets the size of the corpus that is generated; ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from relays import Client, Home, processes, wait_gone

WORDS = ["key", "vault", "march", "bread", "water", "salt", "harbour", "winter", "engine", "letter", "music", "garden"]
"""What the generated notes are made of."""


class Corpus(Home):
    """A home with the embedded model and more to read."""

    def __init__(self, base: Path, files: int, *, model: bool = True) -> None:
        super().__init__(base)
        if model:
            self.config.write_text("[model]\noffline = true\n", encoding="utf-8")
        draw = random.Random(7)
        for number in range(files):
            text = "\n\n".join(" ".join(draw.choices(WORDS, k=60)) for _ in range(12))
            (self.notes / f"{number:04}.md").write_text(f"# Note {number}\n\n{text}\n", encoding="utf-8")


@contextlib.contextmanager
def home(files: int, *, model: bool = True) -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory(prefix="fm-bench-") as base:
        made = Corpus(Path(base), files, model=model)
        try:
            yield made
        finally:
            made.close()


def family(here: Home) -> dict[int, list[str]]:
    """All processes of a home: relays, owner, parsers and whatever they started."""
    found = {int(pid): words for pid, words in processes()}
    mine = {pid for pid, words in found.items() if str(here.data) in words}
    while True:
        more = {pid for pid in found if pid not in mine and _parent(pid) in mine}
        if not more:
            return {pid: found[pid] for pid in mine}
        mine |= more


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def pss(pid: int) -> float:
    """Proportional set size, MiB."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def maps(pid: int, *names: str) -> bool:
    try:
        text = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return any(name in text for name in names)


def indexed(client: Client, *, by_meaning: bool = True) -> None:
    """Wait until everything is: each status is an answer, nothing sleeps."""
    while True:
        folders = client.status()["folders"]
        still = [
            f for f in folders if f["files"]["pending"] or not f["last_scan"] or f["state"] in ("scanning", "reading")
        ]
        if folders and not still and (not by_meaning or all(f["coverage"] == 1.0 for f in folders)):
            return


def launch(here: Home) -> tuple[Client, float]:
    """Start a client; return it and the seconds from launch to the first answer of a tool."""
    began = time.perf_counter()
    client = here.client(str(here.notes)).begin()
    client.status()
    return client, time.perf_counter() - began


def clients(files: int, counts: tuple[int, ...] = (1, 2, 4, 8, 16)) -> dict[str, Any]:
    rows, warm = [], []
    with home(files) as here:
        first, cold = launch(here)
        indexed(first)
        first.tool("search", query="harbour in winter")  # the model is loaded from here on
        running = 1
        for count in counts:
            while running < count:
                warm.append(launch(here)[1])
                running += 1
            for client in here.clients:
                client.tool("search", query="harbour in winter")
            members = family(here)
            sizes = {pid: pss(pid) for pid in members}
            rows.append(
                {
                    "clients": count,
                    "processes": len(members),
                    "owners": len(here.owners()),
                    "import torch": sum(maps(pid, "libtorch") for pid in members),
                    "import onnxruntime": sum(maps(pid, "onnxruntime") for pid in members),
                    "PSS MiB": round(sum(sizes.values()), 1),
                    "relay PSS MiB": round(statistics.mean(sizes.get(c.process.pid, 0.0) for c in here.clients), 1),
                }
            )
    added = (rows[-1]["PSS MiB"] - rows[0]["PSS MiB"]) / (rows[-1]["clients"] - rows[0]["clients"])
    return {
        "rows": rows,
        "added MiB per client": round(added, 2),
        "start to first answer, cold (s)": round(cold, 2),
        "start to first answer, living owner (s)": {
            "p50": round(statistics.median(warm), 3),
            "max": round(max(warm), 3),
            "n": len(warm),
        },
    }


def kills(files: int, calls: int = 100) -> dict[str, Any]:
    """One client, ``calls`` searches; the owner is killed before every tenth and during every tenth."""
    draw, after, during, unanswered, seen = random.Random(3), [], [], 0, []
    with home(files) as here:
        client, _ = launch(here)
        for number in range(calls):
            between, within = number % 10 == 3, number % 10 == 8
            if between:
                seen.append(_kill(here, client))
            began = time.perf_counter()
            asked = client.send(
                "tools/call", name="search", arguments={"query": draw.choice(WORDS), "mode": "keyword"}
            )
            if within:
                seen.append(_kill(here, None))
            answer = client.answer(asked, 120)
            took = time.perf_counter() - began
            if "result" not in answer or answer["result"].get("isError"):
                unanswered += 1
            if between or within:
                (after if between else during).append(took)
        indexed(client)
        complete = client.status()["folders"][0]
    both = sorted(after + during)
    return {
        "calls": calls,
        "kills": len(both),
        "answered with an error or not at all": unanswered,
        "first answer after a kill, p50 (s)": round(statistics.median(both), 2),
        "first answer after a kill, p95 (s)": round(both[int(len(both) * 0.95) - 1], 2),
        "slot and folder when killed": sorted(set(seen)),
        "index complete in the end": complete["coverage"] == 1.0 and complete["files"]["indexed"] == files + 1,
    }


def _kill(here: Home, client: Client | None) -> str:
    what = "in flight"
    if client is not None:
        status = client.status()
        what = f"{status['slot']['state']}, {status['folders'][0]['state'] if status['folders'] else 'opening'}"
    pid = here.note().get("pid")
    if pid:
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    return what


def overhead(files: int, calls: int = 200) -> dict[str, Any]:
    """The same calls to the same corpus, in turns: through the relay, and in one process with nothing between."""
    result: dict[str, Any] = {}
    with home(files, model=False) as shared, home(files, model=False) as own:
        relay = launch(shared)[0]
        alone = own.client(str(own.notes), words=["--no-daemon"]).begin()
        for client in (relay, alone):
            indexed(client, by_meaning=False)
        for tool, arguments in (("status", {}), ("search", {"query": "harbour winter", "mode": "keyword"})):
            times: dict[str, list[float]] = {"relay": [], "one process": []}
            for _ in range(calls):
                for name, client in (("relay", relay), ("one process", alone)):
                    began = time.perf_counter()
                    client.tool(tool, **arguments)
                    times[name].append((time.perf_counter() - began) * 1000)
            rows = {name: round(statistics.median(each), 2) for name, each in times.items()}
            result[f"{tool}, p50 (ms)"] = {**rows, "added": round(rows["relay"] - rows["one process"], 2)}
    return result


def election(rounds: int = 20, relays: int = 8) -> dict[str, Any]:
    slowest, wrong = [], []
    for number in range(rounds):
        with home(1, model=False) as here:
            times: list[float] = []
            pids: set[int] = set()

            def use(here: Home = here, times: list[float] = times, pids: set[int] = pids) -> None:
                began = time.perf_counter()
                client = here.client(str(here.notes)).begin()
                pids.add(client.status()["owner"]["pid"])
                times.append(time.perf_counter() - began)

            threads = [threading.Thread(target=use) for _ in range(relays)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if len(times) != relays or len(pids) != 1 or here.owners() != list(pids):
                wrong.append({"round": number, "served": len(times), "owners": sorted(pids)})
            slowest.append(max(times, default=0.0))
    return {
        "rounds": rounds,
        "relays": relays,
        "rounds with one owner and all served": rounds - len(wrong),
        "wrong": wrong,
        "slowest first answer of a round (s)": {
            "p50": round(statistics.median(slowest), 2),
            "max": round(max(slowest), 2),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("clients", "kills", "overhead", "election"))
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=100, help="of kills")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "load before": round(os.getloadavg()[0], 2),
        "files": args.files,
    }
    for what in args.what:
        if what == "election":
            results[what] = election(args.rounds)
        elif what == "kills":
            results[what] = kills(args.files, args.calls)
        else:
            results[what] = {"clients": clients, "overhead": overhead}[what](args.files)
        print(what, json.dumps(results[what], indent=1), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
