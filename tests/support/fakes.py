"""Fakes the tests share: an embedder whose like texts are near, a loader that can fail, a thread in virtual time."""

from __future__ import annotations

import hashlib
import re
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import looptime
import numpy as np
import trio.testing
from anyio.abc import TaskGroup

from indexer.slot.embedder import ModelSpec, Progress
from indexer.slot.failure import Stopped, classify, failure
from indexer.slot.slot import ModelSlot, open_slot
from indexer.slot.slot_types import SlotSettings
from indexer.slot.thread import ReleaseSteps
from indexer.types import Matrix, Vector

DIM = 64


def model_spec(name: str = "fake", *, dim: int = DIM, **changes: object) -> ModelSpec:
    """A spec for the fake loader; ``changes`` are fields of ``ModelSpec``."""
    key = re.sub(r"[^a-z0-9_]", "_", name.lower())
    spec = ModelSpec(name=name, key=key, directory=f"/models/{key}", dim=dim, max_tokens=256)
    return replace(spec, **changes)  # type: ignore[arg-type]


def hashed_word(word: str, dim: int) -> Vector:
    """A word's own direction, the same in every process: float32 [dim]."""
    blocks = -(-dim // 64)
    digest = b"".join(hashlib.blake2b(word.encode(), salt=bytes([n])).digest() for n in range(blocks))
    return np.frombuffer(digest, dtype=np.uint8)[:dim].astype(np.float32) - np.float32(127.5)


def hashed_text(text: str, dim: int = DIM) -> Vector:
    """The sum of a text's words, unit length: texts that share words are near. float32 [dim]."""
    total = np.zeros(dim, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        total += hashed_word(word, dim)
    norm = float(np.linalg.norm(total))
    if norm == 0.0:  # no words at all: some fixed direction, so that every row is of unit length
        total[0] = norm = 1.0
    return total / np.float32(norm)


class HashEmbedder:
    """An embedder that hashes words into unit vectors, so tests can assert *order*.

    Args:
        spec: What it pretends to be; ``dim`` 0 becomes ``DIM``.
        pause: Called with ``("query", 1)`` or ``("passages", n)`` before the work: to take time, block or raise.
    """

    def __init__(self, spec: ModelSpec, pause: Callable[[str, int], None] | None = None) -> None:
        self.spec = replace(spec, dim=spec.dim or DIM)
        self.queries: list[str] = []
        self.batches: list[list[str]] = []
        self.closed = 0
        self._pause = pause or (lambda kind, count: None)

    def embed_query(self, text: str) -> Vector:
        assert not self.closed, "embed after close"
        self.queries.append(text)
        self._pause("query", 1)
        return hashed_text(text, self.spec.dim)

    def embed_passages(self, texts: Sequence[str]) -> Matrix:
        assert not self.closed, "embed after close"
        self.batches.append(list(texts))
        self._pause("passages", len(texts))
        rows = [hashed_text(text, self.spec.dim) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.spec.dim), dtype=np.float32)

    def close(self) -> None:
        self.closed += 1


FakeEmbedder = HashEmbedder


class FakeReranker:
    """A reranker that likes texts by how often they say ``gold``. Arguments as those of ``HashEmbedder``."""

    def __init__(self, spec: ModelSpec, pause: Callable[[str, int], None] | None = None) -> None:
        self.spec = spec
        self.batches: list[list[str]] = []
        self.closed = 0
        self._pause = pause or (lambda kind, count: None)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        assert not self.closed, "score after close"
        self.batches.append(list(texts))
        self._pause("pairs", len(texts))
        return [float(text.lower().count("gold")) for text in texts]

    def close(self) -> None:
        self.closed += 1


class FakeLoader:
    """Loads ``HashEmbedder``s and keeps count; every behaviour is a public field a test may set.

    Attributes:
        stages: What a load reports, with the seconds each takes by ``pause``.
        pause: Called on the model thread with the seconds of each stage that takes any.
        work: Handed to every embedder as its ``pause``.
        failures: By model key, what the next loads of it raise, first first.
        loads: Names of models in the order their loads began.
        released: How often ``release`` was called.
        most_alive: The largest number of embedders alive at once.
    """

    def __init__(self, *, stages: Sequence[tuple[str, float]] | None = None) -> None:
        self.stages = list(stages or [("files", 0.0), ("tokenizer", 0.0), ("weights", 0.0), ("self-test", 0.0)])
        self.pause: Callable[[float], None] = lambda seconds: None
        self.work: Callable[[str, int], None] | None = None
        self.failures: dict[str, list[BaseException]] = {}
        self.loads: list[str] = []
        self.specs: list[ModelSpec] = []
        self.released = 0
        self.most_alive = 0
        self.embedders: list[weakref.ref[HashEmbedder | FakeReranker]] = []

    @property
    def alive(self) -> list[HashEmbedder | FakeReranker]:
        """The models somebody still holds and nobody closed."""
        return [e for ref in self.embedders if (e := ref()) is not None and not e.closed]

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> HashEmbedder | FakeReranker:
        self.loads.append(spec.name)
        self.specs.append(spec)
        for number, (stage, seconds) in enumerate(self.stages):
            if stopped():
                raise Stopped
            progress(stage, number / len(self.stages))
            if seconds:
                self.pause(seconds)
        waiting = self.failures.get(spec.key)
        if waiting:
            raise waiting.pop(0)
        kind = FakeReranker if spec.kind == "reranker" else HashEmbedder
        embedder = kind(spec, self.work)
        self.embedders.append(weakref.ref(embedder))
        self.most_alive = max(self.most_alive, len(self.alive))
        return embedder

    def release(self) -> None:
        self.released += 1


class Killed(BaseException):
    """Ends a virtual thread that its test has left."""


class VirtualThread:
    """A model thread whose time is the loop's: for tests in virtual time.

    Jobs run on a real thread, but loop and thread never run together: while the job computes, the loop stands
    still; while the job sleeps or waits, the thread does. So a clock that jumps cannot jump over a running job.

    Args:
        tasks: Where its work runs.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._current: Callable[[Any], None] | None = None
        self._posts: deque[Callable[[], None]] = deque()
        self._to_loop = threading.Semaphore(0)
        self._to_thread = threading.Semaphore(0)
        self._wish: Callable[[], Awaitable[object]] | None = None
        self._killed = False
        self._working = False
        self.running = 0
        self.most_running = 0
        self.loop_time = 0.0  # for jobs, which have no loop to ask

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._jobs.append((job, done))
        if not self._working:
            self._working = True
            self._tasks.start_soon(self._work)

    def post(self, call: Callable[[], None]) -> None:
        self._posts.append(call)

    def close(self) -> None:
        self.fail_all("stopping")

    def fail_all(self, code: str = "thread_died") -> None:
        """Fail the running and the pending jobs, as a dying thread does."""
        jobs, self._jobs = [done for _, done in self._jobs], deque()
        current, self._current = self._current, None
        for done in [current, *jobs] if current else jobs:
            done(failure(code, "The model thread ended."))

    def sleep(self, seconds: float) -> None:
        """From within a job: let loop time pass."""
        self._ask(lambda: anyio.sleep(seconds))

    def wait(self, gate: anyio.Event) -> None:
        """From within a job: block until the test opens the gate."""
        self._ask(gate.wait)

    def _ask(self, wish: Callable[[], Awaitable[object]]) -> None:
        self._wish = wish
        self._to_loop.release()
        self._to_thread.acquire()
        if self._killed:
            raise Killed

    async def _work(self) -> None:
        try:
            while self._jobs:
                job, self._current = self._jobs.popleft()
                answer: list[Any] = []
                thread = threading.Thread(target=self._run, args=(job, answer), daemon=True)
                del job
                await self._alternate(thread)
                done, self._current = self._current, None
                if done is not None:
                    done(answer.pop())
        finally:
            self._working = False

    async def _alternate(self, thread: threading.Thread) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.loop_time = anyio.current_time()
        thread.start()
        try:
            while True:
                self._to_loop.acquire()
                self.loop_time = anyio.current_time()
                while self._posts:
                    self._posts.popleft()()
                wish, self._wish = self._wish, None
                if wish is None:
                    break
                await wish()
                self.loop_time = anyio.current_time()
                self._to_thread.release()
        except BaseException:
            self._killed = True
            self._to_thread.release()
            raise
        finally:
            thread.join()
            self.running -= 1

    def _run(self, job: Callable[[], Any], answer: list[Any]) -> None:
        try:
            answer.append(job())
        except Exception as error:
            answer.append(classify(error))
        except Killed:
            pass
        finally:
            self._to_loop.release()


QUICK = ReleaseSteps(collect=lambda: None, freeze=lambda: None, trim=lambda: None)
"""Gives nothing back: for tests in which a full collection per unload would only take time."""


@asynccontextmanager
async def virtual_slot(
    loader: FakeLoader, settings: SlotSettings | None = None, **arguments: Any
) -> AsyncIterator[tuple[ModelSlot, VirtualThread]]:
    """A slot in virtual time, with its thread; the loader's stages take the seconds they say."""
    async with anyio.create_task_group() as tasks:
        thread = VirtualThread(tasks)
        loader.pause = thread.sleep
        arguments.setdefault("release_steps", QUICK)
        arguments.setdefault("clock", lambda: 1_000_000.0 + anyio.current_time())
        async with open_slot(loader, settings, runner=thread, **arguments) as slot:
            yield slot, thread
        tasks.cancel_scope.cancel()


def virtual_backend(name: str) -> tuple[str, dict[str, Any]]:
    """For an ``anyio_backend`` fixture: a backend whose clock jumps to the next thing that happens."""
    if name == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": lambda: looptime.new_event_loop(start=0)}
