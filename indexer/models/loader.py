"""The loader: from a pinned spec to a model that has proved it works."""

from __future__ import annotations

import ctypes
import math
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from indexer.errors import SlotUnavailable
from indexer.models import onnx, torch
from indexer.models.prepared import verify
from indexer.slot import failure
from indexer.slot.embedder import Kind, Model, ModelSpec, Progress, Runtime, as_embedder, as_reranker
from indexer.slot.failure import ModelRefused


class _Runtime(NamedTuple):
    """How a kind of model is loaded by a runtime."""

    prepare: Callable[[], None]
    load: Callable[[ModelSpec, Progress, Callable[[], bool]], Model]


_RUNTIMES: dict[tuple[Kind, Runtime], _Runtime] = {
    ("embedder", "onnx"): _Runtime(onnx.prepare, onnx.load_embedder),
    ("embedder", "torch"): _Runtime(torch.prepare, torch.load_embedder),
    ("reranker", "onnx"): _Runtime(onnx.prepare, onnx.load_reranker),
    ("reranker", "torch"): _Runtime(torch.prepare, torch.load_reranker),
}


class RuntimeLoader:
    """Loads through torch or ONNX Runtime, whichever the spec names; lives on the model thread."""

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
        """Verify the files, load them, try a few words, and return the model.

        Raises:
            indexer.slot.failure.ModelRefused: ``corrupt_files``, ``offline_missing`` or ``incompatible``.
            indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
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
        torch.release()


def _load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
    runtime = _RUNTIMES[spec.kind, spec.runtime]
    progress("runtime", 0.0)
    runtime.prepare()
    failure.raise_if_stopped(stopped)
    progress("files", 0.0)
    verify(Path(spec.directory), spec.checks, stopped, lambda: progress("files", 0.5))
    failure.raise_if_stopped(stopped)
    return runtime.load(spec, progress, stopped)


def _self_test(model: Model) -> None:
    """See that a plain sentence gives a vector of the right length that is not zero, or a pair a finite number.

    Raises:
        ValueError: The model does not work.
    """
    if model.spec.kind == "reranker":
        (score,) = as_reranker(model).score("What does the fox do?", ["The quick brown fox jumps."])
        if not math.isfinite(score):
            raise ValueError(f"the model {model.spec.name} returned no usable score for a plain sentence")
        return
    rows = as_embedder(model).embed_passages(["The quick brown fox."])
    if rows.shape != (1, model.spec.dim) or not float(abs(rows).sum()) > 0.0:
        raise ValueError(f"the model {model.spec.name} returned no usable vector for a plain sentence")


# Accelerator --------------------------------------------------------------------------------------------------------
# Which accelerator is here, asked of the operating system: torch is neither needed nor imported.


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What a load would run on.

    Attributes:
        device: ``cuda``, ``mps`` or ``cpu``.
        name: Name of the accelerator, may be empty.
        total: Its memory in bytes, None when unknown.
        why_not: Why an accelerator that is there is not used, or why none is found; empty when one is used.
    """

    device: str
    name: str = ""
    total: int | None = None
    why_not: str = ""


def detect() -> Accelerator:
    """Find the accelerator that the installed torch can use, in milliseconds and without importing it."""
    if sys.platform == "darwin":
        if platform.machine() == "arm64":
            return Accelerator("mps", "Apple silicon")
        return Accelerator("cpu", why_not="an Intel Mac has no accelerator that torch supports")
    found = _nvidia()
    if found is None:
        return Accelerator("cpu", why_not="no NVIDIA driver answers")
    name, total = found
    build = torch_build()
    if build is None:
        return Accelerator("cpu", name, total, "torch is not installed")
    if not build:
        return Accelerator("cpu", name, total, "the installed torch is a CPU build; install a CUDA build of torch")
    return Accelerator("cuda", name, total)


def torch_build() -> str | None:
    """Return the CUDA version the installed torch is built for, empty for a CPU build, None without torch.

    Read from the text of torch's own ``version.py``.
    """
    try:
        path = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
    except metadata.PackageNotFoundError:
        return None
    if not path.is_file():
        return None
    found = re.search(r"""^cuda\b[^=\n]*=\s*['"]([^'"]+)['"]""", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else ""


def _nvidia() -> tuple[str, int | None] | None:
    """Ask the NVIDIA driver's management library for the first device: name and memory in bytes."""
    library = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(handle)) != 0:
            return None
        name = ctypes.create_string_buffer(96)
        nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(96))
        memory = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
        known = nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0
        return name.value.decode(errors="replace"), int(memory[0]) if known else None
    finally:
        nvml.nvmlShutdown()
