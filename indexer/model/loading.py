"""The loader: from a pinned spec to a model that has proved it works."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from indexer.errors import SlotUnavailable
from indexer.model import onnx_reranker, onnx_runtime, stop, torch_reranker, torch_runtime
from indexer.model.embedder import Kind, Model, ModelSpec, Progress, Runtime, embedding, reranking
from indexer.model.failure import ModelRefused
from indexer.model.identity import verify


class _Runtime(NamedTuple):
    """How a kind of model is loaded by a runtime."""

    prepare: Callable[[], None]
    load: Callable[[ModelSpec, Progress, Callable[[], bool]], Model]


_RUNTIMES: dict[tuple[Kind, Runtime], _Runtime] = {
    ("embedder", "onnx"): _Runtime(onnx_runtime.prepare, onnx_runtime.load),
    ("embedder", "torch"): _Runtime(torch_runtime.prepare, torch_runtime.load),
    ("reranker", "onnx"): _Runtime(onnx_runtime.prepare, onnx_reranker.load),
    ("reranker", "torch"): _Runtime(torch_runtime.prepare, torch_reranker.load),
}


class RuntimeLoader:
    """Loads through torch or ONNX Runtime, whichever the spec names; lives on the model thread."""

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
        """Verify the files, load them, try a few words, and return the model.

        Raises:
            indexer.model.failure.ModelRefused: ``corrupt_files``, ``offline_missing`` or ``incompatible``.
            indexer.model.failure.Stopped: ``stopped`` was true between two stages.
            Exception: Whatever the runtime's libraries raise.
        """
        try:
            model = _load(spec, progress, stopped)
        except SlotUnavailable as e:
            raise ModelRefused(e.code, str(e)) from None
        progress("self-test", 0.0)
        _self_test(model)
        progress("self-test", 1.0)
        return model

    def release(self) -> None:
        """Give back what the accelerator's allocator kept."""
        torch_runtime.release()


def _load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
    runtime = _RUNTIMES[spec.kind, spec.runtime]
    progress("runtime", 0.0)
    runtime.prepare()
    stop.check(stopped)
    progress("files", 0.0)
    verify(Path(spec.directory), spec.checks, stopped, lambda: progress("files", 0.5))
    stop.check(stopped)
    return runtime.load(spec, progress, stopped)


def _self_test(model: Model) -> None:
    """See that a plain sentence gives a vector of the right length that is not zero, or a pair a finite number.

    Raises:
        ValueError: The model does not work.
    """
    if model.spec.kind == "reranker":
        (score,) = reranking(model).score("What does the fox do?", ["The quick brown fox jumps."])
        if not math.isfinite(score):
            raise ValueError(f"the model {model.spec.name} returned no usable score for a plain sentence")
        return
    rows = embedding(model).embed_passages(["The quick brown fox."])
    if rows.shape != (1, model.spec.dim) or not float(abs(rows).sum()) > 0.0:
        raise ValueError(f"the model {model.spec.name} returned no usable vector for a plain sentence")
