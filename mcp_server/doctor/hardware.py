"""The accelerator and memory of this machine, and whether the installed torch is built for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from indexer.models.loader import Accelerator
from mcp_server.doctor.finding import Finding

PCI = Path("/sys/bus/pci/devices")
SMALL = 1 << 30
"""Bytes of free memory under which loading a model may fail."""
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def nvidia_cards(pci: Path = PCI) -> int:
    """NVIDIA display devices on the system's bus, whether or not a driver answers; 0 where it tells nothing."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return found


def torch(build: str | None, found: Accelerator, cards: int, configured: str) -> Iterator[Finding]:
    """Compare the build of torch with the hardware.

    Args:
        build: CUDA version torch was built for, empty for a CPU build, None without torch.
        found: The accelerator as the driver tells it, named also when torch cannot use it.
        cards: NVIDIA devices on the bus.
        configured: ``device`` of the configuration.
    """
    driver = bool(found.name) and found.device in ("cuda", "cpu")
    if build is None:
        yield Finding("torch", "failure", "torch is not installed", "run: pip install torch")
        return
    what = f"torch is built for CUDA {build}" if build else "torch is a CPU build"
    if configured in ("cuda", "mps") and found.device != configured:
        reason = found.why_not or f"this machine has {found.device}"
        remedy = 'set device = "auto" in [model], or make the accelerator usable'
        yield Finding("torch", "failure", f'device = "{configured}" is configured, but {reason}', remedy)
    elif driver and not build:
        remedy = "install a CUDA build of torch (pytorch.org says how), then restart folder-mcp"
        yield Finding("torch", "warning", f"{what}, and this machine has a {found.name}: it is not used", remedy)
    elif cards and not driver:
        remedy = "install the NVIDIA driver, then run folder-mcp doctor again"
        yield Finding("torch", "warning", f"{what}; there is an NVIDIA device, but no driver answers", remedy)
    elif build and found.device == "cpu":
        remedy = "nothing, if there is no NVIDIA device; a CPU build of torch is gigabytes smaller"
        yield Finding("torch", "warning", f"{what}, but no NVIDIA driver answers: models run on the CPU", remedy)
    else:
        yield Finding("torch", "ok", f"{what}, which fits: models run on {found.name or 'the CPU'}")


def memory(found: Accelerator, total: int | None, available: int | None) -> Iterator[Finding]:
    """Tell the memory models run in.

    Args:
        found: The accelerator.
        total: Memory of this machine, bytes.
        available: Of that, free for programs.
    """
    if found.device != "cpu":
        amount = f"{found.total / 1e9:.1f} GB" if found.total else "memory not told"
        yield Finding("device", "ok", f"{found.name} ({found.device}), {amount}")
    else:
        yield Finding(
            "device", "ok", f"no accelerator in use ({found.why_not or 'none found'}): models run on the CPU"
        )
    if total is None or available is None:
        yield Finding("memory", "ok", "the system does not tell how much memory it has")
        return
    text = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB are free"
    if available < SMALL:
        yield Finding("memory", "warning", text, "close other programs, or choose a smaller model")
    else:
        yield Finding("memory", "ok", text)


def system_memory() -> tuple[int | None, int | None]:
    """Total and available memory of this machine, bytes; None where it does not tell.

    Raises:
        ImportError: psutil is missing, on systems without ``/proc``.
    """
    if sys.platform == "linux":
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        total, available = (facts.get(key) for key in ("MemTotal", "MemAvailable"))
        return _bytes(total), _bytes(available)
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415

    found = psutil.virtual_memory()
    return int(found.total), int(found.available)


def _bytes(fact: str | None) -> int | None:
    """The bytes of a line such as ``16303428 kB``."""
    return int(fact.split()[0]) * 1024 if fact else None
