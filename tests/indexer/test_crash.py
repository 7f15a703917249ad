from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from indexer.store.opening import open_store

ROOT = Path(__file__).resolve().parents[2]
FILES = 150


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def index(data: Path, folder: Path, kill_after: int | None) -> dict[str, object] | None:
    """Run the indexing process; kill it after so many lines, or let it finish and return its last line."""
    command = [sys.executable, str(ROOT / "tests" / "indexing_child.py"), str(data), str(folder)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
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


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_at_random_moments_nothing_finished_is_redone_lost_or_doubled(tmp_path: Path) -> None:
    folder, data = tmp_path / "files", tmp_path / "data"
    folder.mkdir()
    for number in range(FILES):
        text = "\n\n".join(f"Paragraph {part} of file {number}. " + "Words to fill it. " * 40 for part in range(4))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    dice = random.Random(7)
    for _ in range(3):
        index(data, folder, kill_after=dice.randrange(4, 40))
        _, _, _, wrong = await inventory(data)
        assert wrong == []
    files, _, vectors, _ = await inventory(data)
    last = index(data, folder, kill_after=None)
    assert last is not None
    work = last["done"]
    assert isinstance(work, dict)
    assert work["files_read"] == FILES - files
    assert last["files"] == FILES
    assert await inventory(data) == (FILES, last["chunks"], last["chunks"], [])
    assert isinstance(last["chunks"], int)
    assert work["chunks_embedded"] + work["vectors_reused"] == last["chunks"] - vectors
