"""Kill the indexing process at random moments and take an inventory after each: nothing lost, doubled or redone.

    python benchmarks/crash.py [--kills 10] [--files 400] [--seed 7] [--writers 1000]

With ``--writers`` so many writers of one index are killed besides, in editing, removing, embedding, compacting, index
building, cleaning up and taking over (see ``tests/support/killed_writers.py``); about half a second each on a quiet
machine.

Real store, real files, real parsers and tokenizer; fake weights, so that the time goes into what can be interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from killed_indexing import plant, survive


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--writers", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.writers:
        program = str(Path(__file__).parents[1] / "tests" / "support" / "killed_writers.py")
        arguments = ["--kills", str(chosen.writers), "--seed", str(chosen.seed)]
        subprocess.run([sys.executable, "-W", "ignore", program, *arguments], check=True)
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
