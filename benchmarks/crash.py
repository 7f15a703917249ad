"""Kill the indexing process at random moments and take an inventory after each: nothing lost, doubled or redone.

    python benchmarks/crash.py [--kills 10] [--files 400] [--seed 7]

Real store, real files, real parsers and tokenizer; fake weights, so that the time goes into what can be interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from killed_indexing import plant, survive


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="crash-") as place:
        folder = Path(place, "files")
        plant(folder, chosen.files)
        wrong = await survive(Path(place, "data"), folder, chosen.files, chosen.kills, chosen.seed)
    print(
        f"{chosen.kills} kills over {chosen.files} files in {time.perf_counter() - started:.0f} s: {len(wrong)} faults"
    )
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
