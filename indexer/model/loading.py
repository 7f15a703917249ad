"""The loader: from a pinned spec to a model that has proved it works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from indexer.errors import SlotUnavailable
from indexer.model import onnx_runtime, stop, torch_runtime
from indexer.model.embedder import Embedder, ModelSpec, Progress, Runtime
from indexer.model.failure import ModelRefused
from indexer.model.identity import verify


class _Runtime(Protocol):
    """A runtime's module."""

    def prepare(self) -> None: ...

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Embedder: ...


_RUNTIMES: dict[Runtime, _Runtime] = {"onnx": onnx_runtime, "torch": torch_runtime}


class RuntimeLoader:
    """Loads through torch or ONNX Runtime, whichever the spec names; lives on the model thread."""

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Embedder:
        """Verify the files, load them, embed a few words, and return the model.

        Raises:
            indexer.model.failure.ModelRefused: ``corrupt_files``, ``offline_missing`` or ``incompatible``.
            indexer.model.failure.Stopped: ``stopped`` was true between two stages.
            Exception: Whatever the runtime's libraries raise.
        """
        try:
            embedder = _load(spec, progress, stopped)
        except SlotUnavailable as e:
            raise ModelRefused(e.code, str(e)) from None
        progress("self-test", 0.0)
        _self_test(embedder)
        progress("self-test", 1.0)
        return embedder

    def release(self) -> None:
        """Give back what the accelerator's allocator kept."""
        torch_runtime.release()


def _load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Embedder:
    runtime = _RUNTIMES[spec.runtime]
    progress("runtime", 0.0)
    runtime.prepare()
    stop.check(stopped)
    progress("files", 0.0)
    verify(Path(spec.directory), spec.checks, stopped, lambda: progress("files", 0.5))
    stop.check(stopped)
    return runtime.load(spec, progress, stopped)


def _self_test(embedder: Embedder) -> None:
    """Embed a passage and see a vector of the right length that is not zero.

    Raises:
        ValueError: The model does not work.
    """
    rows = embedder.embed_passages(["The quick brown fox."])
    if rows.shape != (1, embedder.spec.dim) or not float(abs(rows).sum()) > 0.0:
        raise ValueError(f"the model {embedder.spec.name} returned no usable vector for a plain sentence")
