"""Indexing by the real program against the bare model on the very same chunks: what is lost between them.

    python benchmarks/pipeline.py FOLDER [--megabytes 1.0] [--rounds 3] [--runtime onnx]

The program: the engine in a process of its own, real files, real parsers, the default model; text pass and embedding
pass overlap. The limit: the same weights in a process of its own that is given the program's chunks, sorted by length,
with the fastest size of pass and the fastest way to use the cores of those tried on a sample (passes side by side, a
core each, or one pass on all cores, idle threads sleeping or spinning); its tokenizing is inside, its start is not.
They run in turns. Two shares are reported: of the whole process (start, imports, load, reading, commits, end) and of
the stretch from the model's first batch to the last committed vector.

Counters of the model thread: seconds it worked and seconds it had nothing to do although chunks were waiting, with
the longest pauses and when they were.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anyio
import psutil
import report
from corpus import sample

from indexer.config import load_config
from indexer.engine import open_engine
from indexer.models import onnx
from indexer.models.loader import RuntimeLoader
from indexer.models.spec import resolve
from indexer.slot.embedder import Embedder, ModelSpec, Progress
from indexer.types import Matrix, Vector

MODEL = "all-MiniLM-L6-v2"
BUDGETS = (256, 384, 512, 1024, 2048)
"""Padded tokens of one forward pass that are tried for the limit."""
WAYS = ("side by side", "all cores", "all cores, spinning")
"""How the bare model may use the cores."""
BATCH = 256
"""Texts handed to the bare model at once: it cuts them into passes by the budget itself."""
SAMPLE = 64
"""Chunks on which the budgets are tried."""


class Timed:
    """A model that notes when it worked on what: (start, end, texts) of each batch, on the monotonic clock."""

    def __init__(self, inner: Embedder, jobs: list[tuple[float, float, Sequence[str]]]) -> None:
        self._inner = inner
        self._jobs = jobs

    @property
    def spec(self) -> ModelSpec:
        return self._inner.spec

    def embed_query(self, text: str) -> Vector:
        return self._inner.embed_query(text)

    def embed_passages(self, texts: Sequence[str]) -> Matrix:
        began = time.monotonic()
        matrix = self._inner.embed_passages(texts)
        self._jobs.append((began, time.monotonic(), texts))
        return matrix

    def close(self) -> None:
        self._inner.close()


class TimedLoader(RuntimeLoader):
    """The real loader; what it loads notes its batches."""

    def __init__(self) -> None:
        self.jobs: list[tuple[float, float, Sequence[str]]] = []

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Embedder:
        return Timed(super().load(spec, progress, stopped), self.jobs)


def cpu_by_thread() -> dict[str, float]:
    """CPU seconds so far by kind of thread (Linux), those of the parser processes beside."""
    ticks, names = os.sysconf("SC_CLK_TCK"), {each.native_id: each.name for each in threading.enumerate()}
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        native = (task / "comm").read_text(encoding="utf-8").strip()
        name = names.get(int(task.name)) or f"native: {native}"
        kind = "worker threads" if "worker" in name.lower() else name
        found[kind] = found.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    parsers = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    found["parser processes"] = sum(times.user + times.system for times in parsers)
    return {name: round(seconds, 2) for name, seconds in sorted(found.items(), key=lambda pair: -pair[1])}


async def program(data: Path, folder: Path, chunks: Path | None, runtime: str, started: float) -> dict[str, Any]:
    """Index a folder with the real engine."""
    config = load_config(None, data_dir=data, environ={})
    config = replace(
        config,
        index=replace(config.index, watch=False),
        model=replace(config.model, runtime=runtime),
        search=replace(config.search, wait=300.0),
    )
    loader = TimedLoader()
    async with open_engine(config, version="benchmark", loader=loader) as engine:
        await engine.add_folder(str(folder))
        texts_at = 0.0

        async def until_read() -> None:
            nonlocal texts_at
            async for status in engine.watch(at_most_every=0.2):
                if status.folders and status.folders[0].last_scan and not status.folders[0].files.pending:
                    texts_at = time.monotonic()
                    return

        reading = asyncio.create_task(until_read())
        done = await engine.index()
        ended = time.monotonic()
        await reading
        status, threads = engine.status(verbose=True), cpu_by_thread()
    jobs = loader.jobs
    if chunks is not None:
        chunks.write_text(json.dumps([text for _, _, texts in jobs for text in texts]), encoding="utf-8")
    first = jobs[0][0]
    pauses = sorted(((b[0] - a[1], a[1] - first) for a, b in itertools.pairwise(jobs)), reverse=True)
    worked = sum(end - begin for begin, end, _ in jobs)
    return {
        "cpu_s_by_thread": threads,
        "files": done.indexed,
        "chunks": status.folders[0].chunks,
        "embedded": done.work.chunks_embedded,
        "reused": done.work.vectors_reused,
        "batches": len(jobs),
        "start_to_first_batch_s": first - started,
        "start_to_all_read_s": texts_at - started,
        "stretch_s": ended - first,
        "model_worked_s": worked,
        "model_idle_s": sum(pause for pause, _ in pauses),
        "idle_share": 1 - worked / (jobs[-1][1] - first),
        "last_batch_to_committed_s": ended - jobs[-1][1],
        "longest_pauses_ms_at_s": [(round(pause * 1000, 1), round(at, 1)) for pause, at in pauses[:8]],
        "pauses_over_20ms": sum(pause > 0.02 for pause, _ in pauses),
        "start_to_end_s": ended - started,
    }


def bare(chunks: Path, budget: int, runtime: str, way: str, started: float) -> dict[str, Any]:
    """The model alone over all chunks, longest first; with budget 0, try which is fastest on a sample."""
    texts = sorted(json.loads(chunks.read_text(encoding="utf-8")), key=len, reverse=True)
    if way != WAYS[0]:
        onnx.SMALL = 0  # no model is small enough to work side by side
    if way == WAYS[2]:
        _let_threads_spin()
    model: Any = RuntimeLoader().load(
        resolve(MODEL, runtime=runtime, device="cpu"),  # type: ignore[arg-type]
        lambda *_: None,
        lambda: False,
    )
    plan, loaded = model._passes, time.monotonic()
    if budget:
        model._passes = replace(plan, tokens=budget)
        cpu = time.process_time()
        for at in range(0, len(texts), BATCH):
            model.embed_passages(texts[at : at + BATCH])
        took = time.monotonic() - loaded
        return {"seconds": took, "cpu_s": time.process_time() - cpu, "load_s": loaded - started}
    few = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    tried: dict[int, list[float]] = {each: [] for each in BUDGETS}
    for _ in range(2):  # in turns, so that a busy moment does not hit one budget only
        for each in BUDGETS:
            model._passes = replace(plan, tokens=each)
            began = time.monotonic()
            model.embed_passages(few)
            tried[each].append(len(few) / (time.monotonic() - began))
    return {"tried": {str(each): report.spread(rates, 1) for each, rates in tried.items()}}


def _let_threads_spin() -> None:
    """Idle threads of the runtime spin instead of sleeping: its own default, which the program turns off."""
    import onnxruntime as ort

    plain = ort.SessionOptions.add_session_config_entry

    def without_spin(self: Any, key: str, value: str) -> None:
        plain(self, key, "1" if key == "session.intra_op.allow_spinning" else value)

    ort.SessionOptions.add_session_config_entry = without_spin


def ours(*words: object) -> report.Child:
    return report.run([sys.executable, __file__, *map(str, words), "{started}"], memory=True)


def best(chunks: Path, runtime: str) -> tuple[int, str, dict[str, Any]]:
    """The fastest budget and way, with what was tried."""
    tried = {way: ours("--bare", chunks, 0, runtime, way).said["tried"] for way in WAYS}
    rates = {(way, budget): each["max"] for way, found in tried.items() for budget, each in found.items()}
    way, budget = max(rates, key=lambda key: rates[key])
    return int(budget), way, tried


def measure(folder: Path, about: dict[str, Any], rounds: int, runtime: str, base: Path) -> dict[str, Any]:
    chunks = base / "chunks.json"
    limits, programs = [], []
    budget, way, tried = 0, "", {}
    for number in range(rounds):
        kept = chunks if number == 0 else Path("-")
        programs.append(ours("--program", base / f"data{number}", folder, kept, runtime))
        if number == 0:
            budget, way, tried = best(chunks, runtime)
        limits.append(ours("--bare", chunks, budget, runtime, way))
        _say(number, programs[-1], limits[-1])
    listed = len(json.loads(chunks.read_text(encoding="utf-8")))
    rate = [each.said["embedded"] / each.said["stretch_s"] for each in programs]
    bare_rate = [listed / each.said["seconds"] for each in limits]
    whole = [each.said["embedded"] / each.said["start_to_end_s"] for each in programs]
    bare_whole = [listed / (each.said["seconds"] + each.said["load_s"]) for each in limits]
    cpu = [each.cost.cpu_s / each.said["embedded"] * 1000 for each in programs]
    bare_cpu = [each.said["cpu_s"] / listed * 1000 for each in limits]
    return {
        "corpus": {**about, "chunks": listed, "chunks_of_program": programs[0].said["chunks"]},
        "limit": {"padded_tokens": budget, "way": way, "tried_chunks_per_s": tried},
        "program_chunks_per_s": report.spread(rate),
        "limit_chunks_per_s": report.spread(bare_rate),
        "share_of_limit": report.spread([a / b for a, b in zip(rate, bare_rate, strict=True)]),
        "share_of_limit_whole_process": report.spread([a / b for a, b in zip(whole, bare_whole, strict=True)]),
        "program_cpu_ms_per_chunk": report.spread(cpu),
        "limit_cpu_ms_per_chunk": report.spread(bare_cpu),
        "cpu_share_of_model": report.spread([b / a for a, b in zip(cpu, bare_cpu, strict=True)]),
        "model_idle_share": report.spread([each.said["idle_share"] for each in programs], 4),
        "program_peak_MiB": report.spread([each.cost.peak_MiB for each in programs], 0),
        "limit_peak_MiB": report.spread([each.cost.peak_MiB for each in limits], 0),
        "others_cpu_s": report.spread([each.cost.others_cpu_s for each in (*programs, *limits)], 1),
        "programs": [{**each.said, "cpu_s": each.cost.cpu_s, "wall_s": each.cost.wall_s} for each in programs],
        "limits": [each.said for each in limits],
    }


def _say(number: int, one: report.Child, bare_model: report.Child) -> None:
    said = one.said
    print(
        f"round {number + 1}: program {said['stretch_s']:.1f} s, idle {said['idle_share']:.1%}, "
        f"CPU {one.cost.cpu_s:.1f} s, others' CPU {one.cost.others_cpu_s:.0f} s; "
        f"bare model {bare_model.said['seconds']:.1f} s, CPU {bare_model.said['cpu_s']:.1f} s, "
        f"others' {bare_model.cost.others_cpu_s:.0f} s; "
        f"longest pauses (ms, at s): {said['longest_pauses_ms_at_s'][:4]}",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--program"]:
        data, folder, chunks, runtime, started = sys.argv[2:7]
        kept = None if chunks == "-" else Path(chunks)
        print(json.dumps(anyio.run(program, Path(data), Path(folder), kept, runtime, float(started))))
        return
    if sys.argv[1:2] == ["--bare"]:
        chunks, budget, runtime, way, started = sys.argv[2:7]
        print(json.dumps(bare(Path(chunks), int(budget), runtime, way, float(started))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of the sample drawn from the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", choices=("onnx",), default="onnx")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pipeline-") as made:
        folder = Path(made, "files")
        about = sample(options.folder.resolve(), folder, options.megabytes)
        figures = measure(folder, dict(about), options.rounds, options.runtime, Path(made))
    rows = [{"figure": name, "value": value} for name, value in figures.items() if isinstance(value, dict)]
    print(report.table([row for row in rows if "median" in row["value"]]))
    report.keep("pipeline", figures, load)


if __name__ == "__main__":
    main()
