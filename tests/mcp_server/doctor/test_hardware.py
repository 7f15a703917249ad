"""torch and memory against made-up machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from findings import by_name, one

from indexer.models.loader import Accelerator
from mcp_server.doctor import machine

CPU = Accelerator("cpu", why_not="no NVIDIA driver answers")
GPU = Accelerator("cuda", "NVIDIA RTX 9", 24 << 30)
UNUSED = Accelerator("cpu", "NVIDIA RTX 9", 24 << 30, "the installed torch is a CPU build")
MAC = Accelerator("mps", "Apple silicon")


@pytest.mark.parametrize(
    ("build", "found", "cards", "configured", "verdict", "words"),
    [
        ("", CPU, 0, "auto", "ok", "CPU build"),
        ("12.8", GPU, 1, "auto", "ok", "NVIDIA RTX 9"),
        ("", UNUSED, 1, "auto", "warning", "it is not used"),
        ("12.8", CPU, 0, "auto", "warning", "no NVIDIA driver answers"),
        ("12.8", CPU, 1, "auto", "warning", "no driver answers"),
        ("", CPU, 1, "auto", "warning", "no driver answers"),
        ("", MAC, 0, "auto", "ok", "Apple silicon"),
        ("", CPU, 0, "cuda", "failure", 'device = "cuda"'),
        ("12.8", GPU, 1, "mps", "failure", 'device = "mps"'),
        (None, CPU, 0, "auto", "failure", "not installed"),
    ],
)
def test_the_build_of_torch_is_compared_with_the_machine(
    build: str | None, found: Accelerator, cards: int, configured: str, verdict: str, words: str
) -> None:
    finding = one(machine.torch_findings(build, found, cards, configured))
    assert finding.verdict == verdict
    assert words in finding.detail


def test_cards_are_counted_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0", "0x10de", "0x030000"),
        ("1", "0x10de", "0x040300"),
        ("2", "0x8086", "0x030000"),
        ("3", "0x10de", "0x030200"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n", encoding="ascii")
        (tmp_path / name / "class").write_text(kind + "\n", encoding="ascii")
    (tmp_path / "4").mkdir()
    assert machine.nvidia_cards(tmp_path) == 2
    assert machine.nvidia_cards(tmp_path / "none") == 0


def test_memory_is_told_and_little_of_it_is_a_warning() -> None:
    found = by_name(machine.memory_findings(GPU, 32 << 30, 512 << 20))
    assert found["device"].detail == "NVIDIA RTX 9 (cuda), 25.8 GB"
    assert found["memory"].verdict == "warning"
    found = by_name(machine.memory_findings(CPU, None, None))
    assert "no accelerator in use" in found["device"].detail and found["memory"].verdict == "ok"
    total, available = machine.system_memory()
    assert total and available and 0 < available <= total
