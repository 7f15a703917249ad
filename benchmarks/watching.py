"""A watched folder under bursts of changes: ``python benchmarks/watching.py [--changes 10000]``.

Plants notes, indexes them with a real engine (its model is a fake), then changes, moves, deletes and adds files in
bursts, directories too, and waits until the index has every file as it is on disk. At the end the index is compared,
chunk by chunk, with a fresh index of the final tree. Fails when they differ.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import anyio

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from fakes import FakeLoader
from live_folder import burst, contents, fresh_contents, plant, until_equal, watched

from indexer.engine import open_engine


async def measure(changes: int, bursts: int, seed: int) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "folder")
        root.mkdir()
        plant(root, changes // 2, chance)
        touched = 0
        async with open_engine(watched(Path(place, "data")), version="benchmark", loader=FakeLoader()) as engine:
            began = time.perf_counter()
            await engine.add_folder(str(root))
            await engine.index()
            print(f"{changes // 2} files indexed at first in {time.perf_counter() - began:.1f} s", flush=True)
            before = engine.status().work
            for number in range(bursts):
                left = (changes - touched) // (bursts - number)
                touched += await anyio.to_thread.run_sync(burst, root, left, chance, number * changes)
                print(f"burst {number + 1}: {touched} files touched so far", flush=True)
                await anyio.sleep(chance.uniform(0.0, 3.0))
            ended = time.perf_counter()
            await until_equal(engine, root)
            print(f"consistent {time.perf_counter() - ended:.1f} s after the last change", flush=True)
            after = engine.status().work
            found = await contents(engine, root)
        read, embedded = after.files_read - before.files_read, after.chunks_embedded - before.chunks_embedded
        print(f"read {read}, chunks embedded {embedded}, reused {after.vectors_reused - before.vectors_reused}")
        fresh = await fresh_contents(Path(place, "fresh"), root)
    wrong = sorted(path for path in found.keys() | fresh.keys() if found.get(path) != fresh.get(path))
    print(f"{len(fresh)} files in the final tree; {len(wrong)} differ from a fresh index {wrong[:5]}")
    return len(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--bursts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    sys.exit(1 if anyio.run(measure, chosen.changes, chosen.bursts, chosen.seed) else 0)


if __name__ == "__main__":
    main()
