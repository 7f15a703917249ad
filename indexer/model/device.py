"""Which accelerator is here, asked of the operating system: torch is neither needed nor imported."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


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
