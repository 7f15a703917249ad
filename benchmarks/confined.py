"""Whether the limits of a parser process change what documents say: ``python benchmarks/confined.py DIRECTORY``.

Parses every file of DIRECTORY twice, in a process that takes every limit this system has and in one that takes none,
from descriptors that were opened before. Prints how many gave the same text or the same reason, names the others, and
the processor seconds of both. Ends with 1 when a file differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def parse_all(folder: Path, left_out: tuple[str, ...]) -> None:
    """Confine this process, parse, print JSON and end: xberg's threads outlive an orderly exit."""
    from indexer.documents.confinement import confine
    from indexer.documents.parse import ParseLimits, parse_here
    from indexer.errors import ParseFailed

    files = {path.name: FileIO(str(path)) for path in sorted(folder.iterdir()) if path.is_file()}
    taken = confine(2 << 30, without=left_out)
    said, began = {}, time.process_time()
    for name, source in files.items():
        try:
            document = parse_here(str(folder / name), source, ParseLimits()).document
            said[name] = hashlib.sha256(repr((document.units, document.title)).encode("utf-8", "replace")).hexdigest()
        except ParseFailed as error:
            said[name] = f"refused: {error}"
    seconds = time.process_time() - began
    sys.stdout.write(json.dumps({"steps": taken.steps, "said": said, "seconds": seconds}))
    sys.stdout.flush()
    os._exit(0)


def outcome(folder: Path, left_out: tuple[str, ...]) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--without", ",".join(left_out)]
    done = subprocess.run(command, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    from indexer.documents.confinement import STEPS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="its files are parsed")
    parser.add_argument("--without", help=argparse.SUPPRESS)  # what a child process leaves out
    args = parser.parse_args()
    folder: Path = args.directory
    if args.without is not None:
        parse_all(folder, tuple(args.without.split(",")))
    confined, free = outcome(folder, ()), outcome(folder, STEPS)
    differ = [name for name, text in confined["said"].items() if free["said"][name] != text]
    refused = sum(text.startswith("refused: ") for text in confined["said"].values())
    same = len(confined["said"]) - len(differ)
    limits = ", ".join(confined["steps"])
    print(f"{len(confined['said'])} files, {same} the same ({refused} refused); limits: {limits}")
    print(f"processor: {confined['seconds']:.2f} s with them, {free['seconds']:.2f} s without")
    for name in differ:
        print(f"differs: {name}: {confined['said'][name]} | {free['said'][name]}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
