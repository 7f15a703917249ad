"""The loader: from a resolved spec to a model that has passed a self-test. Imports a runtime when a load needs it."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from indexer.errors import SlotUnavailable
from indexer.models.prepared import verify
from indexer.slot.embedder import Model, ModelSpec, Progress, as_embedder, as_reranker
from indexer.slot.failure import ModelRefused, raise_if_stopped

LoadModel: TypeAlias = Callable[[ModelSpec, Progress, Callable[[], bool]], Model]


class RuntimeLoader:
    """Loads by torch or ONNX Runtime, whichever the spec names; runs on the model thread."""

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
        """Verify the files, load them, run a self-test, and return the model.

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
        """Release the blocks that the accelerator's allocator caches; nothing to do if torch was never imported."""
        torch: Any = sys.modules.get("torch")
        if torch is None:
            return
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.ipc_collect()
        if torch.backends.mps.is_available():
            torch.mps.synchronize()
            torch.mps.empty_cache()


def _load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
    progress("runtime", 0.0)
    load = _import_runtime(spec)
    raise_if_stopped(stopped)
    progress("files", 0.0)
    verify(Path(spec.directory), spec.checks, stopped, lambda: progress("files", 0.5))
    raise_if_stopped(stopped)
    return load(spec, progress, stopped)


def _import_runtime(spec: ModelSpec) -> LoadModel:
    """Import the libraries that run ``spec``, and return the function that loads it.

    This is the ``runtime`` stage of a load, which the slot gives a limit of its own the first time: 0.2 CPU seconds
    for ONNX Runtime, ten for torch.
    """
    quiet_libraries()
    if spec.runtime == "torch":
        from indexer.models import torch  # noqa: PLC0415 - ten seconds, for a load by torch only

        return torch.load_reranker if spec.kind == "reranker" else torch.load_embedder
    from indexer.models import onnx  # noqa: PLC0415 - not before a load: a start imports this module

    return onnx.load_reranker if spec.kind == "reranker" else onnx.load_embedder


def quiet_libraries() -> None:
    """Switch off telemetry, progress bars and tokenizer threads in the model libraries. Call it before their import.

    They have no other switch than environment variables, which they read at import. Offline mode is not among them:
    it would hold for a later ``models pull`` of this process too; loads are kept from the network by
    ``local_files_only`` and a directory for a name.
    """
    settings = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)  # environment: the libraries have no other switch


def _self_test(model: Model) -> None:
    """Check that a plain sentence gives a vector of the right length that is not zero, or a pair a finite number.

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
# The operating system is asked: torch is neither needed nor imported.


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


def detect_accelerator() -> Accelerator:
    """Find the accelerator that the installed torch can use; takes milliseconds and does not import torch."""
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
