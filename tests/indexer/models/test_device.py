from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from indexer.models.loader import detect_accelerator, torch_build


def test_the_probe_imports_no_torch_and_names_a_device() -> None:
    code = (
        "import sys\n"
        "from indexer.models.loader import detect_accelerator\n"
        "found = detect_accelerator()\n"
        "print(found.device, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    device, imported = done.stdout.split()
    assert device in ("cpu", "cuda", "mps")
    assert imported == "False"


def test_a_cpu_says_why_there_is_no_accelerator() -> None:
    found = detect_accelerator()
    assert bool(found.why_not) == (found.device == "cpu")


def test_the_build_of_torch_is_read_from_its_version_file() -> None:
    from importlib import metadata

    build = torch_build()
    assert build is not None
    assert (build == "") == ("+cpu" in metadata.version("torch"))
