"""The two runtimes side by side: cold start, one query, bulk rate, memory given back.

    python benchmarks/model_runtimes.py [MODEL]

Every row is measured in a fresh process. Bulk: 64 passages of 5 to 254 tokens in micro-batches of 16, sorted.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal


def memory() -> dict[str, float]:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


def run(name: str, runtime: Literal["onnx", "torch"]) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    from indexer.models.loader import RuntimeLoader
    from indexer.models.spec import resolve

    loader = RuntimeLoader()
    spec = resolve(name, runtime=runtime)
    model = loader.load(spec, lambda _stage, _done: None, lambda: False)
    model.embed_query("how long is the notice period?")
    out = {"cold_wall_s": time.perf_counter() - start, "cold_cpu_s": time.process_time() - cpu}
    out |= {f"cold_{k}_MiB": v for k, v in memory().items()}
    took = []
    for i in range(60):
        at = time.perf_counter()
        model.embed_query(f"how long is the notice period of contract {i}?")
        took.append(time.perf_counter() - at)
    out["query_p50_ms"] = sorted(took)[30] * 1000
    words = [
        "notice",
        "period",
        "contract",
        "pressure",
        "the",
        "of",
        "valve",
        "is",
        "a",
        "second",
        "which",
        "and",
        "bank",
    ]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(3 + i * 4)) for i in range(64)]
    texts.sort(key=len)
    at, cpu = time.perf_counter(), time.process_time()
    for i in range(0, len(texts), 16):
        model.embed_passages(texts[i : i + 16])
    out["bulk_chunks_per_s"] = len(texts) / (time.perf_counter() - at)
    out["bulk_cpu_ms_per_chunk"] = (time.process_time() - cpu) / len(texts) * 1000
    out["loaded_RssAnon_MiB"] = memory()["RssAnon"]
    model.close()
    del model
    gc.collect()
    gc.collect()
    loader.release()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    out["unloaded_RssAnon_MiB"] = memory()["RssAnon"]
    out["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="all-MiniLM-L6-v2")
    parser.add_argument("runtime", nargs="?", choices=("onnx", "torch"), help="measure this one, in this process")
    args = parser.parse_args()
    name = args.model
    if args.runtime:
        print(json.dumps(run(name, args.runtime)))
        return
    rows = {}
    for runtime in ("onnx", "torch"):
        done = subprocess.run([sys.executable, __file__, name, runtime], capture_output=True, text=True, check=True)
        rows[runtime] = json.loads(done.stdout.splitlines()[-1])
    print(f"{'':24}{'onnx':>12}{'torch':>12}")
    for field in rows["onnx"]:
        print(f"{field:24}{rows['onnx'][field]:12.2f}{rows['torch'][field]:12.2f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
