"""The same folder and the same weights, indexed by folder-mcp and by other programs, in turns in one run.

    python benchmarks/others.py FOLDER [--megabytes 0.3] [--rounds 2] [--only txtai,haystack] [--venvs DIR]

Each other program is installed in an environment of its own (outside the repository, kept for the next run) in the
version of the table below, and indexes the folder as its documentation shows, with its own reader, chunking and
store (``benchmarks/rivals/``). Measured from the start of the process to the first answer of a search by meaning.

Chunks differ between programs, so three rates: text of the folder (kB/s), chunks, and tokens that went through the
model. A chunk longer than the model's window is cut off by some programs; that text is then not searchable by
meaning, and "cut off" says how much. Questions are headings of the files, the answer is the file they stand in:
their words favour whoever also searches by word, so our rows by meaning alone stand beside.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anyio
import report
from corpus import sample

from indexer.config import load_config
from indexer.engine import open_engine
from indexer.models.spec import resolve
from indexer.models.tokenizer import open_tokenizer
from indexer.types import Query
from mcp_server.cli.bench import Question, from_headings

TORCH = ("torch==2.13.0", "sentence-transformers==6.2.0", "transformers==5.23.0")
RIVALS: dict[str, tuple[str, ...]] = {
    "txtai": (TORCH[0], TORCH[2], "txtai==9.14.0"),
    "llama_index": (*TORCH, "llama-index-core==0.14.25", "llama-index-embeddings-huggingface==0.8.0"),
    "langchain": (
        *TORCH,
        "langchain-community==0.4.2",
        "langchain-huggingface==1.2.3",
        "langchain-text-splitters==1.1.3",
        "lancedb==0.40.0",
    ),
    "haystack": (*TORCH, "haystack-ai==3.4.0", "sentence-transformers-haystack==2.0.0"),
}
"""What is installed for each program, pinned."""
DEPTH = 10


async def ours(data: Path, folder: Path, questions: Path, chunks: Path, started: float) -> dict[str, Any]:
    """folder-mcp's engine, as its own process runs it: default settings but the watcher."""
    config = load_config(None, data_dir=data, environ={})
    asked: list[str] = json.loads(questions.read_text(encoding="utf-8"))
    config = replace(config, index=replace(config.index, watch=False), search=replace(config.search, wait=300.0))
    async with open_engine(config, version="benchmark") as engine:
        await engine.add_folder(str(folder))
        opened = time.monotonic()
        done = await engine.index()
        await engine.search(Query(asked[0], DEPTH, mode="semantic"))
        ready, cpu = time.monotonic(), _cpu()
        answers: dict[str, dict[str, list[str]]] = {}
        took: dict[str, list[float]] = {}
        for mode in ("hybrid", "semantic"):
            answers[mode], took[mode] = {}, []
            for question in asked:
                began = time.monotonic()
                answer = await engine.search(Query(question, DEPTH, mode=mode))  # type: ignore[arg-type]
                took[mode].append(time.monotonic() - began)
                answers[mode][question] = [hit.path for hit in answer.hits]
        assert engine._components is not None
        store = engine._components.store
        rows = await store.files()
        texts = [chunk.passage for row in rows for chunk in await store.chunks_of(row.path)]
    chunks.write_text(json.dumps(texts), encoding="utf-8")
    return {
        "files": done.indexed,
        "chunks": len(texts),
        "start_to_loaded_s": opened - started,
        "start_to_searchable_s": ready - started,
        "cpu_to_searchable_s": cpu,
        "queries_s": took["hybrid"],
        "answers": answers["hybrid"],
        "queries_semantic_s": took["semantic"],
        "answers_semantic": answers["semantic"],
    }


def _cpu() -> float:
    """CPU seconds of this process and of what it started, parsers still running too."""
    import psutil

    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + (times.children_user + times.children_system)
    return total


def python_of(name: str, venvs: Path) -> Path:
    """The interpreter of a program's environment, made and filled if it is not there."""
    place = venvs / name
    wanted, mark = "\n".join(RIVALS[name]), place / "installed.txt"
    python = place / "bin" / "python"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
        print(f"installing {name}: {', '.join(RIVALS[name])}", flush=True)
        venv.create(place, with_pip=True)
        report.run_plainly([python, "-m", "pip", "install", "-q", *RIVALS[name]])
        mark.write_text(wanted, encoding="utf-8")
    return python


def score(answers: dict[str, list[str]], asked: Sequence[Question]) -> dict[str, float]:
    """nDCG@10 and recall@10 of the one file each question was drawn from; a file counts once, at its best place."""
    gains, found = 0.0, 0
    for question in asked:
        files = list(dict.fromkeys(os.path.realpath(path) for path in answers[question.text]))
        rank = files.index(question.path) + 1 if question.path in files else 0
        gains += 1 / math.log2(rank + 1) if rank else 0.0
        found += bool(rank)
    return {"nDCG@10": round(gains / len(asked), 3), "recall@10": round(found / len(asked), 3)}


def measure(
    folder: Path, about: dict[str, Any], names: Sequence[str], options: argparse.Namespace, base: Path
) -> dict[str, Any]:
    spec = resolve("all-MiniLM-L6-v2", device="cpu")
    tokens = open_tokenizer(spec)
    texts = [(str(p), p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*")) if p.is_file()]
    asked = from_headings(texts, options.questions)
    questions = base / "questions.json"
    questions.write_text(json.dumps([each.text for each in asked]), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    runs: dict[str, list[report.Child]] = {"folder-mcp": [], **{name: [] for name in names}}
    sizes: dict[str, tuple[int, int]] = {}
    for number in range(options.rounds):
        for name, kept in runs.items():
            chunks = base / f"{name}.json"
            if name == "folder-mcp":
                command = [sys.executable, __file__, "--ours", base / f"data{number}", folder, questions, chunks]
            else:
                script = Path(__file__).parent / "rivals" / f"with_{name}.py"
                command = [python_of(name, options.venvs), script, folder, spec.directory, questions, chunks]
            kept.append(report.run([*command, "{started}"], env=environment, memory=True))
            if name not in sizes:
                counts = [tokens.count(text) for text in json.loads(chunks.read_text(encoding="utf-8"))]
                sizes[name] = (sum(counts), sum(min(each, tokens.limit) for each in counts))
            print(
                f"round {number + 1}: {name}: {kept[-1].said['start_to_searchable_s']:.1f} s, "
                f"others' CPU {kept[-1].cost.others_cpu_s:.0f} s",
                flush=True,
            )
    rows = []
    for name, children in runs.items():
        rows.append(row(name, children, sizes[name], about, asked, ""))
        if name == "folder-mcp":
            rows.append(row("folder-mcp, by meaning alone", children, sizes[name], about, asked, "_semantic"))
    return {"corpus": {**about, "questions": len(asked)}, "rows": rows, "pinned": {n: RIVALS[n] for n in names}}


def row(
    name: str,
    children: Sequence[report.Child],
    size: tuple[int, int],
    about: dict[str, Any],
    asked: Sequence[Question],
    suffix: str,
) -> dict[str, Any]:
    """A program's figures over all rounds."""
    said = [child.said for child in children]
    whole, took = [each["start_to_searchable_s"] for each in said], []
    for each in said:
        took += each[f"queries{suffix}_s"]
    after = [each["start_to_searchable_s"] - each["start_to_loaded_s"] for each in said]
    return {
        "program": name,
        "files": said[0]["files"],
        "chunks": said[0]["chunks"],
        "cut off": f"{1 - size[1] / size[0]:.0%}",
        "start to searchable s": report.spread(whole, 1),
        "of that start and load s": report.spread([each["start_to_loaded_s"] for each in said], 1),
        "CPU s": report.spread([each["cpu_to_searchable_s"] for each in said], 1),
        "peak MiB": report.spread([child.cost.peak_MiB for child in children], 0),
        "kB/s": report.spread([about["MB"] * 1000 / each for each in whole], 2),
        "chunks/s": report.spread([said[0]["chunks"] / each for each in whole], 2),
        "tokens/s": report.spread([size[1] / each for each in whole], 0),
        "tokens/s without start": report.spread([size[1] / each for each in after], 0),
        "tokens per CPU s": report.spread([size[1] / each["cpu_to_searchable_s"] for each in said], 0),
        "query p50 ms": report.percentiles(took)["p50_ms"],
        **score(said[0][f"answers{suffix}"], asked),
        "others' CPU s": report.spread([child.cost.others_cpu_s for child in children], 0),
    }


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ours against the best of the others in each figure; above 1 we win."""
    mine, others = rows[0], [each for each in rows if not each["program"].startswith("folder-mcp")]
    found = {}
    for figure in ("kB/s", "chunks/s", "tokens/s", "tokens/s without start", "tokens per CPU s"):
        best = max(others, key=lambda each: each[figure]["median"])
        found[figure] = {
            "ours over the best other": round(mine[figure]["median"] / best[figure]["median"], 2),
            "best other": best["program"],
        }
    for figure in ("start to searchable s", "peak MiB"):
        best = min(others, key=lambda each: each[figure]["median"])
        found[figure] = {
            "ours over the best other": round(best[figure]["median"] / mine[figure]["median"], 2),
            "best other": best["program"],
        }
    return found


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        data, folder, questions, chunks, started = sys.argv[2:7]
        said = anyio.run(ours, Path(data), Path(folder), Path(questions), Path(chunks), float(started))
        print(json.dumps(said))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--only", default=",".join(RIVALS), help="programs, comma between")
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "folder-mcp-benchmarks")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    for name in names:
        python_of(name, options.venvs)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="others-") as made:
        base = Path(made).resolve()
        about = sample(options.folder.resolve(), base / "files", options.megabytes)
        figures = measure(base / "files", dict(about), names, options, base)
    print(report.table(figures["rows"]))
    if not names:
        return
    figures["ours_against_the_best"] = ratios(figures["rows"])
    print(json.dumps(figures["ours_against_the_best"], indent=1))
    report.keep("others", figures, load)


if __name__ == "__main__":
    main()
