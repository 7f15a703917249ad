"""Status through a real engine: coverage by format, what was refused by name, and the parsers' state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engines import engine_over, settings
from hostile import HOSTILE, mail, script

from indexer.status_types import FormatCounts, ReasonCount


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
async def test_coverage_is_told_by_format_with_reasons_and_secrets_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.md", "b.md"):
        (folder / name).write_text("words\n", encoding="utf-8")
    (folder / "c.md").write_text("key AKIA" + "ABCDEFGHIJKLMNOP\n", encoding="utf-8")
    (folder / "pixels.png").write_bytes(b"\x89PNG")
    (folder / ".env").write_text("TOKEN=1\n", encoding="utf-8")
    mail(folder, "crash")
    config = replace(settings(tmp_path / "data"), parser_python=script(tmp_path / "hostile-python", HOSTILE))
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        brief, status = engine.status(), engine.status(verbose=True)
        (folder / "a.md").unlink()
        (folder / "pixels.png").unlink()
        await engine.index()
        later = engine.status()
    found = {count.format: count for count in status.folders[0].formats}
    assert found["md"] == FormatCounts("md", 3, 0, 0, (ReasonCount("1 secret blanked (AWS key id)", 1),))
    assert found["png"] == FormatCounts("png", 0, 1, 0, (ReasonCount("not text: .png files are not indexed", 1),))
    assert (found["eml"].failed, found["other"].skipped) == (1, 1)
    assert [Path(p.path).name for p in status.folders[0].problems] == ["crash.eml", ".env", "c.md", "pixels.png"]
    assert status.folders[0].problems[1].reason.startswith("a secret by its name")
    assert brief.folders[0].formats == tuple(replace(count, reasons=()) for count in status.folders[0].formats)
    assert [(count.format, count.indexed) for count in later.folders[0].formats] == [
        ("md", 2),
        ("eml", 0),
        ("other", 0),
    ]


@pytest.mark.slow
async def test_readiness_is_degraded_while_documents_cannot_be_parsed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "note.md").write_text("words\n", encoding="utf-8")
    mail(folder, "letter")
    config = replace(settings(tmp_path / "data"), parser_python=str(tmp_path / "nowhere"))
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        status = engine.status(verbose=True)
    pool = status.index.pool
    assert pool is not None
    assert status.services.keyword == "degraded"
    assert (status.index.parser, pool.step) == ("unavailable", "plain text only")
    assert "nowhere" in pool.detail and "PYTHON_PATH" in pool.remedy
    assert "waits for a parser process" in status.folders[0].problems[0].reason
