"""Indexing that is killed at random moments, and an inventory of what is left: for the test and the benchmark."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from indexer.store.store import open_store

ROOT = Path(__file__).resolve().parents[2]


def plant(folder: Path, files: int) -> None:
    """So many text files of a few chunks each."""
    folder.mkdir()
    for number in range(files):
        text = "\n\n".join(f"Paragraph {part} of file {number}. " + "Words to fill it. " * 40 for part in range(4))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")


def index(data: Path, folder: Path, kill_after: int | None) -> dict[str, Any] | None:
    """Run the indexing process; kill it after so many lines, or let it finish and return its last line."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "indexing_child.py"), str(data), str(folder)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            said = json.loads(line)
            if "done" in said:
                return dict(said)
            if kill_after is not None and number >= kill_after:
                process.kill()
                break
    return None


async def inventory(data: Path) -> tuple[int, int, int, list[str]]:
    """Files, chunks and vectors in the index, and whatever is wrong with it."""
    async with open_store(data / "index", read_only=True) as store:
        rows = await store.files()
        wrong = [f"{path} has {n} rows" for path, n in Counter(r.path for r in rows).items() if n > 1]
        ids: Counter[str] = Counter()
        for row in rows:
            chunks = await store.chunks_of(row.path)
            ids.update(chunk.chunk_id for chunk in chunks)
            if len(chunks) != row.chunks or [c.ordinal for c in chunks] != sorted({c.ordinal for c in chunks}):
                wrong.append(f"{row.path}: {len(chunks)} chunks, its row says {row.chunks}")
        wrong += [f"chunk {chunk} stands {n} times" for chunk, n in ids.items() if n > 1]
        counts = await store.counts()
        vectors = sum(sum(folders.values()) for folders in counts.embedded.values())
        return len(rows), len(ids), vectors, [*wrong, *store.damage]


async def survive(data: Path, folder: Path, files: int, kills: int, seed: int = 7) -> list[str]:
    """Kill the indexing process ``kills`` times, then let it finish; returns whatever is not as it should be."""
    dice, wrong = random.Random(seed), []
    left = (0, 0, 0)
    for round_ in range(kills):
        index(data, folder, kill_after=dice.randrange(4, 40))
        *now, faults = await inventory(data)
        wrong += [f"after kill {round_ + 1}: {fault}" for fault in faults]
        if any(after < before for after, before in zip(now, left, strict=True)):
            wrong.append(f"after kill {round_ + 1}: {left} files, chunks, vectors became {now}")
        left = (now[0], now[1], now[2])
    last = index(data, folder, kill_after=None)
    assert last is not None
    work, chunks = last["done"], last["chunks"]
    if work["files_read"] != files - left[0]:
        wrong.append(f"{work['files_read']} files read at the end, {files - left[0]} were left")
    if work["chunks_embedded"] + work["vectors_reused"] != chunks - left[2]:
        wrong.append(f"{work['chunks_embedded']} chunks embedded at the end, {chunks - left[2]} were left")
    *final, faults = await inventory(data)
    if final != [files, chunks, chunks]:
        wrong.append(f"{files} files of {chunks} chunks ended as {final}")
    return [*wrong, *faults]
