"""docs/benchmarks.md says what the kept runs say, and nothing else: no figure without the run that made it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plots():  # type: ignore[no-untyped-def]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import plots

        yield plots
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_page_is_what_the_kept_runs_give(plots) -> None:  # type: ignore[no-untyped-def]
    figures, _ = plots.drawn(plots.RESULTS)
    page = plots.PAGE.read_text(encoding="utf-8")
    assert page == plots.rewritten(page, figures), "run: python benchmarks/plots.py"


def test_charts_are_drawn_from_the_kept_runs(plots) -> None:  # type: ignore[no-untyped-def]
    _, pictures = plots.drawn(plots.RESULTS)
    kept = {file.stem: file.read_text(encoding="utf-8") for file in plots.PLOTS.glob("*.svg")}
    assert kept == pictures, "run: python benchmarks/plots.py"


def test_figure_of_a_run_is_shown_with_its_command_load_and_commit(plots, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = (
        '{"command": "python benchmarks/scale.py --to 20", "date": "2026-01-02 03:04 UTC", "load": {"before": 0.5, '
        '"after": 7.25}, "machine": {"processor": "P", "cores": 2, "memory_GiB": 4.0, "system": "S", "python": "3", '
        '"versions": {"lancedb": "0.40"}, "commit": "abc1234"}, "rows": [{"chunks": 10, "search_p50_ms": 5.5}, '
        '{"chunks": 20, "search_p50_ms": 7.5}]}'
    )
    (tmp_path / "scale.json").write_text(run, encoding="utf-8")
    figures, pictures = plots.drawn(tmp_path)
    for expected in ("python benchmarks/scale.py --to 20", "abc1234", "0.5 before, 7.25 after", "| 20 | 7.5 |"):
        assert expected in figures
    assert set(pictures) == {"scale"} and "polyline" in pictures["scale"]
