"""From a folder to an answer in an MCP client: the SDK's own stdio client against an installed server.

    python benchmarks/straight_path.py FOLDER [--searches 50] [--no-daemon]

Prints when the first message was answered and which heavy libraries were mapped into the serving processes at that
moment, when the first keyword and the first semantic hits came, the states the slot went through, and how long
searches took while indexing was going on, against the micro-batch that was running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from mcp import Client, StdioServerParameters

HEAVY = ("torch", "transformers", "lancedb", "pyarrow", "onnxruntime", "tokenizers", "numpy")
QUERIES = [
    "read a json file", "how to parse command line arguments", "socket timeout", "copy a directory tree",
    "regular expression groups", "temporary file that is deleted", "thread safe queue", "format a date",
    "compress data with zlib", "unit test setup and teardown",
]  # fmt: skip


def heavy_libraries(data: Path) -> dict[int, list[str]]:
    """Heavy libraries with compiled parts mapped into each of our processes (by command line)."""
    found = {}
    for process in psutil.process_iter(["pid", "cmdline"]):
        if str(data) in " ".join(process.info["cmdline"] or ()) and process.pid != psutil.Process().pid:
            try:
                maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            found[process.pid] = [name for name in HEAVY if f"/{name}/" in maps]
    return found


def first_answer(command: list[str], data: Path) -> None:
    """Start the server as a client would, and look at it at the moment its first answer arrives."""
    started = time.perf_counter()
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(request).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        took, mapped = time.perf_counter() - started, heavy_libraries(data)
        server.stdin.close()
    print(f"first message answered after {took:.2f} s; heavy libraries mapped at that moment: {mapped}")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--keep-warm", type=float, default=300)
    parser.add_argument(
        "--until-embedded", action="store_true", help="wait for the end and the unload (small folders)"
    )
    parser.add_argument("--no-daemon", action="store_true")
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="straight-path-"))
    config = data / "config.toml"
    config.write_text(f"[slot]\nkeep_warm = {options.keep_warm}\n", encoding="utf-8")
    command = shutil.which("folder-mcp") or str(Path(sys.executable).with_name("folder-mcp"))
    arguments = ["serve", str(options.folder), "--data-dir", str(data / "data"), "--config", str(config)]
    if options.no_daemon:
        arguments.append("--no-daemon")
    print(f"files: {sum(1 for path in options.folder.rglob('*') if path.is_file()):,}")
    first_answer([command, *arguments], data)
    started = time.perf_counter()

    def elapsed() -> float:
        return time.perf_counter() - started

    states: list[str] = []
    server = StdioServerParameters(command=command, args=arguments)
    async with Client(server, mode="legacy", read_timeout_seconds=90) as client:
        print(f"SDK client connected after {elapsed():.2f} s")

        async def call(tool: str, **given: object) -> dict:  # type: ignore[type-arg]
            return (await client.call_tool(tool, given)).structured_content or {}

        async def note_states() -> None:
            while True:
                slot = (await call("status"))["slot"]
                if not states or states[-1] != slot["state"]:
                    states.append(slot["state"])
                    print(f"  {elapsed():7.1f} s  slot: {slot['state']}")
                await asyncio.sleep(0.05)

        noting = asyncio.create_task(note_states())
        seen: set[str] = set()
        while "semantic" not in seen:
            answer = await call("search", query=QUERIES[0], mode="hybrid")
            matched = {leg for hit in answer.get("hits", ()) for leg in hit["matched"]}
            for leg in sorted(matched - seen):
                print(f"  {elapsed():7.1f} s  first {leg} hit ({answer['elapsed_ms']:.0f} ms, {answer['semantic']})")
            seen |= matched
            await asyncio.sleep(0.1)
        keyword, hybrid, batches = [], [], []
        for number in range(options.searches):
            query = QUERIES[number % len(QUERIES)]
            keyword.append((await call("search", query=query, mode="keyword"))["elapsed_ms"])
            hybrid.append((await call("search", query=query, mode="hybrid"))["elapsed_ms"])
            batches.append(((await call("status"))["slot"].get("micro_batch_s") or 0.0) * 1000)
        for name, values in (("keyword", keyword), ("hybrid", hybrid), ("micro-batch", batches)):
            print(f"{name:>12}: p50 {statistics.median(values):6.0f} ms   p95 {percentile(values, 0.95):6.0f} ms")
        if options.until_embedded:
            while not (len(states) > 3 and states[-1] == "idle"):
                await asyncio.sleep(0.2)
        status = await call("status")
        noting.cancel()
        print("states:", " -> ".join(states))
        print("work:", json.dumps(status["work"]))
        print(
            "folders:",
            json.dumps([{k: f[k] for k in ("state", "files", "chunks", "embedded")} for f in status["folders"]]),
        )


if __name__ == "__main__":
    asyncio.run(main())
