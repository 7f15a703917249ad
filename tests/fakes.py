"""Fakes the tests share: an embedder whose like texts are near, a loader that can fail, and a thread in virtual time."""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from indexer.model.embedder import ModelSpec, Progress
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
        self.embedders: list[weakref.ref[HashEmbedder]] = []

    @property
    def alive(self) -> list[HashEmbedder]:
        """The embedders somebody still holds and nobody closed."""
        return [e for ref in self.embedders if (e := ref()) is not None and not e.closed]

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> HashEmbedder:
        from indexer.model.failure import Stopped

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
        embedder = HashEmbedder(spec, self.work)
        self.embedders.append(weakref.ref(embedder))
        self.most_alive = max(self.most_alive, len(self.alive))
        return embedder

    def release(self) -> None:
        self.released += 1
