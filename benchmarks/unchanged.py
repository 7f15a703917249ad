"""Index a folder, then index it again unchanged in a new process: time, and that no file was read.

    python benchmarks/unchanged.py FOLDER

The weights are fake (embedding thousands of files takes the model an hour); walking, comparing, the store and the
manifest are real. The bare walk is ``os.scandir`` and ``stat`` over the same tree, nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bare_walk(folder: Path) -> tuple[int, float]:
    """Files and seconds of a walk that only stats."""
    started, files, stack = time.perf_counter(), 0, [str(folder)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    files += 1
    return files, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"}
    with tempfile.TemporaryDirectory(prefix="unchanged-") as data:
        for what in ("first", "again", "again"):
            started = time.perf_counter()
            command = [sys.executable, str(ROOT / "tests" / "support" / "indexing_child.py"), data, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            print(f"{what}: {time.perf_counter() - started:.1f} s as a process; {done.stdout.splitlines()[-1]}")
        files, seconds = min(bare_walk(folder) for _ in range(3))
        print(f"bare walk: {files} files in {seconds:.2f} s")


if __name__ == "__main__":
    main()
