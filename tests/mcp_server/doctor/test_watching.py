"""Folders and the limits of watches."""

from __future__ import annotations

from pathlib import Path

import pytest
from findings import LOCAL, by_name, one

from mcp_server.doctor.setup import count_directories, folder_findings, watch_findings, watch_limits


def test_folders_are_reached_or_not(tmp_path: Path) -> None:
    here, gone = str(tmp_path), str(tmp_path / "gone")
    found = by_name(folder_findings([here, gone], ["/ is too broad"], LOCAL))
    assert found[f"folder {here}"].verdict == "ok"
    assert found[f"folder {gone}"].verdict == "failure"
    assert found["folder"].detail == "/ is too broad"
    assert one(folder_findings([here], [], [("/", "cifs")])).verdict == "warning"
    assert one(folder_findings([], [], LOCAL)).verdict == "warning"


@pytest.mark.parametrize(
    ("allowed", "counted", "verdict"),
    [((8192, 128), 10, "ok"), ((8192, 128), 5000, "warning"), ((100, 128), 100, "failure")],
)
def test_watches_are_compared_with_directories(allowed: tuple[int, int], counted: int, verdict: str) -> None:
    found = one(watch_findings(allowed, ["/x"], watch=True, count=lambda roots, enough: (counted, counted < enough)))
    assert found.verdict == verdict
    assert (found.verdict == "failure") == ("max_user_watches=" in found.remedy)


def test_few_watchers_and_no_watching() -> None:
    found = by_name(watch_findings((8192, 8), ["/x"], watch=True, count=lambda roots, enough: (1, True)))
    assert found["file watchers"].verdict == "warning"
    assert one(watch_findings((1, 1), ["/x"], watch=False)).verdict == "ok"
    assert one(watch_findings(None, [], watch=True)).verdict == "ok"


def test_directories_are_counted_until_there_are_enough(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    assert count_directories([str(tmp_path)], 1000) == (10, True)
    assert count_directories([str(tmp_path)], 4) == (4, False)
    ticks = iter(range(0, 1000, 3))
    assert count_directories([str(tmp_path)], 1000, lambda: float(next(ticks))) == (2, False)


def test_the_limits_are_read_where_the_system_keeps_them(tmp_path: Path) -> None:
    assert watch_limits(tmp_path) is None
    (tmp_path / "max_user_watches").write_text("8192\n", encoding="ascii")
    (tmp_path / "max_user_instances").write_text("128\n", encoding="ascii")
    assert watch_limits(tmp_path) == (8192, 128)
