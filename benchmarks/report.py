"""What every benchmark says of the place it ran in, how it measures, and how it keeps its figures.

A run's figures go to ``benchmarks/results/NAME.json`` (the newest run of each benchmark, with the command, machine,
versions, date and load), from which ``plots.py`` draws. On a shared machine wall seconds say little: beside them
stand CPU seconds of what was measured and the CPU seconds that everything else on the machine used meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = ("lancedb", "pyarrow", "numpy", "onnxruntime", "tokenizers", "mcp", "xberg")


def machine() -> dict[str, Any]:
    """The place: processor, cores, memory, system, versions, commit."""
    processor = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_GiB": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "commit": commit.stdout.strip() or "unknown",
    }


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Least, middle and greatest of some measurements, and how many there were."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "n": len(values),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds, nearest rank, and how many there were."""
    ordered = sorted(seconds)
    at = {share: ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 95, 99)}
    return {**{f"p{share}_ms": round(value * 1000, 1) for share, value in at.items()}, "n": len(ordered)}


def shown(value: Any) -> str:
    """A figure for people; a spread as ``median (min-max)``."""
    if isinstance(value, dict) and "median" in value:
        return f"{shown(value['median'])} ({shown(value['min'])}-{shown(value['max'])})"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table; columns are the keys of the first row unless named."""
    names = list(columns or rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(shown(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def keep(name: str, figures: dict[str, Any], load_before: float, *, into: Path | None = None) -> Path:
    """Write a run's figures with what they were measured on; returns the file."""
    target = into or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    words = [Path(sys.argv[0]).name, *(_plain(word) for word in sys.argv[1:])]
    whole = {
        "benchmark": name,
        "command": f"python benchmarks/{' '.join(words)}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "load": {"before": round(load_before, 2), "after": round(os.getloadavg()[0], 2)},
        "machine": machine(),
        **figures,
    }
    target.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nkept in {target}")
    return target


def _plain(word: str) -> str:
    """A path by its last part only: where things lie on the machine that measured is nobody's business."""
    return Path(word).name if os.sep in word else word


def cpu_everywhere() -> float:
    """CPU seconds the whole machine has been busy since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


@dataclass
class Cost:
    """What a stretch of work cost.

    Attributes:
        wall_s: Seconds.
        cpu_s: CPU seconds of the processes measured.
        others_cpu_s: CPU seconds of everything else on the machine meanwhile.
        peak_MiB: Most memory the processes had at one moment (resident, shared pages counted once), 0 if not asked.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    peak_MiB: float = 0.0  # noqa: N815 - the unit's name


@dataclass
class Child:
    """A process that was run to its end: what it printed last (JSON), and what it cost with all it started."""

    said: dict[str, Any]
    cost: Cost = field(default_factory=Cost)


def run(
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    memory: bool = False,
    limit_s: float = 1800.0,
) -> Child:
    """Run a command to its end; the last line of its output must be a JSON object.

    Args:
        command: Program and arguments. ``{started}`` in an argument becomes the start on the monotonic clock, so
            that the child can say how long after its start something happened.
        env: Its environment, None for ours.
        memory: Whether to look at its memory, five times a second.
        limit_s: Seconds after which it is killed and the benchmark gives up.
    """
    busy, before, began = cpu_everywhere(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    words = [str(word).replace("{started}", repr(began)) for word in command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    with watched(process.pid) if memory else contextlib.nullcontext([0.0]) as peak:
        try:
            out, err = process.communicate(timeout=limit_s)
        except BaseException:
            process.kill()
            raise
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode or not out.strip():
        raise SystemExit(f"{' '.join(words[:4])} ... ended with {process.returncode}:\n{err[-4000:]}")
    others = max(0.0, cpu_everywhere() - busy - cpu)
    return Child(json.loads(out.strip().splitlines()[-1]), Cost(took, cpu, others, peak[0]))


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Note the most memory (PSS, MiB) a process and its descendants have at one moment, in the list yielded."""
    peak, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            peak[0] = max(peak[0], memory_of(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def memory_of(pid: int) -> float:
    """Memory of a process and its descendants: proportional set size, MiB; 0 when it is gone."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0.0
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):
            total += pss(process.pid)
    return total


def pss(pid: int) -> float:
    """Proportional set size of one process, MiB (Linux)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def drop_page_cache() -> bool:
    """Empty the system's page cache where we may (Linux, root); returns whether it was done."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="utf-8")
    except OSError:
        return False
    return True


def run_plainly(command: Sequence[str | Path]) -> None:
    """Run a command whose output is not wanted; end the benchmark if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-4000:]}")
