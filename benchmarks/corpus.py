"""A sample of the real files of a folder, the same one each time: what the rate benchmarks index.

    python benchmarks/corpus.py FOLDER TARGET [--megabytes 1.0] [--suffixes md,rst,txt,py]

Files of 1 kB to 100 kB that are UTF-8, drawn in an order that depends on their names below the folder only, until
they make so many megabytes. Nothing of it is kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

SUFFIXES = "md,rst,txt,py"
SMALLEST, LARGEST = 1_000, 100_000


def sample(folder: Path, target: Path, megabytes: float, suffixes: str = SUFFIXES) -> dict[str, float | int | str]:
    """Copy the sample to ``target`` (which must not exist); returns what it is."""
    wanted = {f".{each}" for each in suffixes.split(",")}
    found = [path for path in folder.rglob("*") if path.suffix in wanted and path.is_file() and not path.is_symlink()]
    found.sort(key=lambda path: hashlib.sha256(str(path.relative_to(folder)).encode()).digest())
    files, size, seen = 0, 0, set[bytes]()
    for path in found:
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if not SMALLEST <= len(data) <= LARGEST or digest in seen or not _is_text(data):
            continue
        seen.add(digest)
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        files, size = files + 1, size + len(data)
        if size >= megabytes * 1e6:
            break
    if not files:
        raise SystemExit(f"{folder} has no files of {suffixes} between {SMALLEST} and {LARGEST} bytes")
    return {"folder": folder.name, "files": files, "MB": round(size / 1e6, 3), "suffixes": suffixes}


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--suffixes", default=SUFFIXES)
    options = parser.parse_args()
    print(sample(options.folder, options.target, options.megabytes, options.suffixes))


if __name__ == "__main__":
    main()
