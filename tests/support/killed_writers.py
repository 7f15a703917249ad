"""Writers of one index, killed at random moments, hundreds of times: a driver process that forks them.

Each writer takes the lock, verifies what the one before it left, and then edits, removes, embeds, compacts, builds
indexes and cleans up without a pause, telling before and after each step through a pipe. The driver kills it at a
random moment and hands the next one what was told. Writers are forked after the storage library was imported and
before it was used, so that a kill costs a tenth of a second and not an import.

    python tests/support/killed_writers.py --kills 100 [--seed 1] [--deep 25]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import anyio
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreBusy
from indexer.store.open_tables import verify_chunks, verify_vectors
from indexer.store.resources import prepare_process
from indexer.store.schema import stored_chunks
from indexer.store.store import Store, open_store
from indexer.types import FileWrite, Scope

FILES = 24
KEY = "m"
STRANDED = 100
"""Files that may be there after cleaning up: 31 of a table at rest, as many of the version before, and more."""
STEPS = ("edit", "edit", "edit", "embed", "embed", "remove", "compact", "build", "clean")


def write_of(name: int, generation: int) -> FileWrite:
    """A file of one to six chunks, of which some stay the same from one generation to the next."""
    count = 1 + (name + generation) % 6
    texts = [f"again file{name} part{k} of {generation // (1 + k % 3)} " + "filler " * 20 for k in range(count)]
    return written(f"{name}.md", *texts, size=generation)


def alive(files: dict[str, int]) -> set[str]:
    """Ids of the chunks of these files."""
    return {c.chunk_id for name, generation in files.items() for c in stored_chunks(write_of(int(name), generation))}


# The writer ---------------------------------------------------------------------------------------------------


async def work(place: str, out: int, told: int, seed: int) -> None:
    dice = random.Random(seed)

    def tell(*said: Any) -> None:
        os.write(out, (json.dumps(said) + "\n").encode())

    while True:
        with contextlib.suppress(StoreBusy):
            async with open_store(place) as store:
                store.maintenance.exact, store.maintenance.keep = 40, timedelta(milliseconds=1)
                tell("open")
                known = json.loads(_line(told))
                faults = await verify(store, known)
                tell("verified", faults, {Path(row.path).stem: row.size for row in await store.files()})
                generation = known["generation"]
                while True:
                    generation += 1
                    await step(store, dice, generation, tell)
        await anyio.sleep(0.003)


async def step(store: Store, dice: random.Random, generation: int, tell: Any) -> None:
    kind = dice.choice(STEPS)
    names = sorted(dice.sample(range(FILES), dice.randint(1, 6)))
    if kind == "edit":
        tell("doing", kind, dict.fromkeys(names, generation))
        await store.replace([write_of(name, generation) for name in names])
    elif kind == "remove":
        names = names[:2]
        tell("doing", kind, dict.fromkeys(names))
        await store.remove([f"{FOLDER}/{name}.md" for name in names])
    elif kind == "embed":
        chunks = await store.pending(KEY, DIM, FOLDER, dice.randint(5, 60))
        tell("doing", kind, [chunk.chunk_id for chunk in chunks])
        await store.add_vectors(KEY, DIM, [(chunks, vectors_of(chunks))])
    else:
        tell("doing", kind, None)
        for vectors in store._vectors.values():
            for index in await vectors.table.list_indices() if kind == "build" else ():
                if index.columns == ["vector"]:
                    await vectors.table.drop_index(index.name)
        store.maintenance.keep = timedelta(milliseconds=1) if kind == "clean" else timedelta(seconds=2)
        await store.maintain(force=True)
    tell("done")


async def verify(store: Store, known: dict[str, Any]) -> list[str]:
    """What is not as it was told to be: lost, doubled, half written, or to be done again."""
    wrong = [f"damage: {sentence}" for sentence in store.damage]
    rows = {Path(row.path).stem: row for row in await store.files()}
    sizes = {name: row.size for name, row in rows.items()}
    if sizes not in [known["files"], *known["perhaps"]]:
        wrong.append(f"files are {sizes}, told {known['files']} or {known['perhaps']}")
    found = await store._chunks.table.query().where("ordinal >= 0").select(["chunk_id", "path"]).to_arrow()
    ids, paths = found["chunk_id"].to_pylist(), Counter(found["path"].to_pylist())
    wrong += [f"chunk {i} stands {n} times" for i, n in Counter(ids).items() if n > 1]
    wrong += [f"{r.path} has {paths[r.path]} chunks of {r.chunks}" for r in rows.values() if paths[r.path] != r.chunks]
    wrong += [f"{path} has chunks and no row" for path in paths if Path(path).stem not in rows]
    have: list[str] = []
    if KEY in store._vectors:
        have = (await store._vectors[KEY].table.query().select(["chunk_id"]).to_arrow())["chunk_id"].to_pylist()
    wrong += [f"vector of {i} stands {n} times" for i, n in Counter(have).items() if n > 1]
    again = (set(known["vectors"]) & set(ids)) - set(have)
    wrong += [f"{len(again)} vectors that were committed are to be made again"] if again else []
    pending = {chunk.chunk_id for chunk in await store.pending(KEY, DIM, FOLDER)} if ids else set()
    wrong += ["what is pending is not what has no vector"] if pending != set(ids) - set(have) else []
    wrong += ["the counts are wrong"] if store.pending_count(KEY, FOLDER) != len(pending) else []
    hits = await store.search_text(["again"], Scope(), 1000)
    wrong += [f"a search by word finds {len(hits)} of {len(ids)}"] if len(hits) != len(ids) else []
    if known["deep"]:
        await verify_chunks(store._chunks.table)
        for vectors in store._vectors.values():
            await verify_vectors(vectors.table)
        wrong += await tidy(store)
    return wrong


async def tidy(store: Store) -> list[str]:
    """Clean up and look at the disk: what killed writers left must not stay."""
    await store.maintain(force=True)
    await anyio.sleep(0.01)
    store._chunks.fragmentation.has_orphaned_files = True
    await store.maintain(force=True)
    place = store.directory / "tables" / "chunks.lance"
    rooms = Counter(path.relative_to(place).parts[0] for path in place.rglob("*") if path.is_file())
    return [f"after cleaning up there are {dict(rooms)} files"] if rooms.total() > STRANDED else []


def _line(fd: int) -> str:
    data = b""
    while not data.endswith(b"\n"):
        data += os.read(fd, 1 << 16)
    return data.decode()


# The driver ---------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """A forked writer: its process, what it tells, and the end of the pipe it is told by."""

    pid: int
    heard: int
    tell: int
    rest: str = ""
    queue: deque[str] = field(default_factory=deque)

    def lines(self, until: float) -> Iterator[list[Any]]:
        """What it tells until a time, or until it is dead and everything is read."""
        while True:
            while self.queue:
                yield json.loads(self.queue.popleft())
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.heard], [], [], left)[0]:
                return
            data = os.read(self.heard, 1 << 16).decode()
            if not data:
                return
            *whole, self.rest = (self.rest + data).split("\n")
            self.queue.extend(whole)

    def kill(self) -> list[list[Any]]:
        """SIGKILL; returns what it told last."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        last = list(self.lines(time.monotonic() + 60))
        os.close(self.heard)
        os.close(self.tell)
        return last


@dataclass
class Told:
    """What the writers said they had done."""

    files: dict[str, int] = field(default_factory=dict)
    vectors: set[str] = field(default_factory=set)
    doing: tuple[str, Any] | None = None
    generation: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    verified: int = 0

    def hear(self, said: list[Any]) -> None:
        if said[0] == "doing":
            self.doing = (said[1], said[2])
            self.generation += 1
        elif said[0] == "verified":
            self.verified += 1
            self.faults += said[1]
            if len(said) > 2:  # whether the interrupted step happened; vectors of what it may have touched are free
                before, self.doing = self.files, None
                self.files = said[2]
                self.vectors &= alive(before) & alive(self.files)
        elif said[0] == "done" and self.doing is not None:
            self._apply(*self.doing)
            self.doing = None

    def _apply(self, kind: str, what: Any) -> None:
        if kind in ("edit", "remove"):
            self.files = self._after(what)
            self.vectors &= alive(self.files)
        elif kind == "embed":
            self.vectors.update(what)

    def _after(self, what: dict[str, int | None]) -> dict[str, int]:
        files = {**self.files, **what}
        return {name: size for name, size in files.items() if size is not None}

    def known(self, *, deep: bool) -> str:
        """For the next writer; the step that was interrupted happened, or did not."""
        kind, what = self.doing or ("", None)
        perhaps = [self._after(what)] if kind in ("edit", "remove") else []
        known = {"files": self.files, "perhaps": perhaps, "vectors": sorted(self.vectors), "deep": deep}
        return json.dumps({**known, "generation": self.generation + 1}) + "\n"


def start(place: Path, seed: int) -> Writer:
    heard, out = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(heard), os.close(tell)
            anyio.run(work, str(place), out, told, seed)
        except BaseException as error:
            os.write(out, (json.dumps(["verified", [f"the writer died: {error!r}"]]) + "\n").encode())
        os._exit(1)
    os.close(out), os.close(told)
    return Writer(pid, heard, tell)


def kill_them(place: Path, kills: int, seed: int, deep: int) -> Told:
    """Kill so many writers; every other one has its successor waiting for the lock already."""
    warnings.filterwarnings("ignore", message=".*fork.*")
    prepare_process()
    import pyarrow  # noqa: F401

    dice, told = random.Random(seed), Told()
    writer = start(place, seed)
    for number in range(kills):
        _begin(writer, told, dice, deep=number % deep == deep - 1)
        heir = start(place, seed + number + 1) if dice.random() < 0.5 else None
        for said in writer.lines(time.monotonic() + dice.uniform(0.0, 0.35)):
            told.hear(said)
        for said in writer.kill():
            told.hear(said)
        told.moments[told.doing[0] if told.doing else "between steps"] += 1
        told.moments["with a successor waiting"] += heir is not None
        if heir is not None and dice.random() < 0.2:  # killed as it takes over
            time.sleep(dice.uniform(0.0, 0.05))
            heir.kill()
            told.moments["taking over"] += 1
            heir = None
        writer = heir or start(place, seed + number + 1)
        if told.faults:
            break
    _begin(writer, told, dice, deep=True)
    writer.kill()
    return told


def _begin(writer: Writer, told: Told, dice: random.Random, *, deep: bool) -> None:
    """Let a writer open and verify; kill none before, the next would have nothing to compare."""
    for said in writer.lines(time.monotonic() + 120):
        told.hear(said)
        if said[0] == "open":
            os.write(writer.tell, told.known(deep=deep).encode())
        if said[0] == "verified":
            return
    told.faults.append("a writer did not open within two minutes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deep", type=int, default=25)
    chosen = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="killed-") as place:
        told = kill_them(Path(place), chosen.kills, chosen.seed, chosen.deep)
    seconds = round(time.perf_counter() - started, 1)
    done = {"kills": chosen.kills, "verified": told.verified, "seconds": seconds, "moments": dict(told.moments)}
    print(json.dumps({**done, "steps": told.generation, "faults": told.faults}))
    return bool(told.faults)


if __name__ == "__main__":
    sys.exit(main())
