"""SIGKILL in the middle of writing: what is committed is whole, the rest never was."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from index_data import DIM, FOLDER

from indexer.store.store import open_store
from indexer.types import Scope

WRITER = """
import anyio, sys
from index_data import DIM, FOLDER, vectors_of, written
from indexer.store.store import open_store

async def main(directory, start):
    async with open_store(directory) as store:
        for number in range(start, start + 10_000):
            names = [f"{n}.md" for n in range(12)]
            lines = [f"word {number} {n}" for n in range(1 + number % 5)]
            await store.replace([written(name, *lines) for name in names])
            print(number, flush=True)
            chunks = await store.pending("m", DIM, FOLDER, 20)
            await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
            if number % 5 == 0:
                await store.maintain(force=True)

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


def killed_writer(directory: Path, start: int, after: float) -> int:
    """Let a process write, kill it, and return the last generation it reported."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(start)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'tests/support'}", "PATH": ""},
    )
    assert process.stdout is not None
    with process:
        last = int(process.stdout.readline())
        deadline = time.monotonic() + after
        while time.monotonic() < deadline:
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        return max([last, *(int(line) for line in process.stdout.read().split())])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
async def test_killed_writer_leaves_every_batch_whole_and_nothing_doubled(tmp_path: Path) -> None:
    reported, moments = 0, random.Random(5)
    for _ in range(5):
        reported = killed_writer(tmp_path, reported + 1, moments.uniform(0.05, 0.8))
        async with open_store(tmp_path) as store:
            assert store.damage == ()
            files = await store.files()
            generations = set()
            for file in files:
                chunks = await store.chunks_of(file.path)
                assert len(chunks) == file.chunks
                generations |= {chunk.text.split()[1] for chunk in chunks}
            assert len(files) == 12
            assert len(generations) == 1  # the batch came whole
            generation = int(generations.pop())
            assert generation in (reported, reported + 1)  # what was reported is there
            counts = await store.counts()
            ids = (await store._chunks.ids()).to_pylist()
            assert len(ids) == len(set(ids)) == counts.chunks[FOLDER]
            vectors = (await store._vectors["m"].table.query().select(["chunk_id"]).to_arrow())["chunk_id"].to_pylist()
            assert len(vectors) == len(set(vectors))
            waiting = await store.pending("m", DIM, FOLDER)
            assert {chunk.chunk_id for chunk in waiting} == set(ids) - set(vectors)
            await store.maintain(force=True)
            assert len(await store.search_text(["word"], Scope(), 100)) == len(ids)
            reported = generation
