"""The text pass through a real engine: files whose parser dies, whose package is missing, and odd names and clocks."""

from __future__ import annotations

import os
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from engines import ask, engine_over, names, settings
from hostile import HOSTILE, mail, script

from indexer.config import Config
from indexer.engine import Engine
from indexer.indexing import text_pass


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "folder"
    place.mkdir()
    return place


def hostile(tmp_path: Path) -> Config:
    return replace(settings(tmp_path / "data"), parser_python=script(tmp_path / "hostile-python", HOSTILE))


def parsed(engine: Engine) -> int:
    """Files that parser processes have answered."""
    pool = engine.status().index.pool
    assert pool is not None
    return pool.parsed


@pytest.mark.slow
async def test_a_file_whose_parser_died_is_read_once_more_at_once(tmp_path: Path, folder: Path) -> None:
    mail(folder, "flaky")
    async with engine_over(tmp_path / "data", folder, config=hostile(tmp_path)) as engine:
        report = await engine.index()
    assert (report.indexed, report.failed, report.problems) == (1, 0, ())


@pytest.mark.slow
async def test_a_file_that_kills_its_parser_twice_is_left_alone_until_it_changes(tmp_path: Path, folder: Path) -> None:
    mail(folder, "crash")
    mail(folder, "sound")
    async with engine_over(tmp_path / "data", folder, config=hostile(tmp_path)) as engine:
        report = await engine.index()
        (problem,) = report.problems
        assert (report.indexed, problem.attempts) == (1, 2)
        assert "the parser crashed on this file (signal 11)" in problem.reason
        assert (await engine.index()).work.files_read == 0
        os.utime(problem.path, (1, 1))
        assert (await engine.index()).work.files_read == 2


@pytest.mark.slow
async def test_a_file_whose_package_is_missing_names_it_and_is_read_when_it_came(tmp_path: Path, folder: Path) -> None:
    mail(folder, "lacking")
    async with engine_over(tmp_path / "data", folder, config=hostile(tmp_path)) as engine:
        (problem,) = (await engine.index()).problems
        assert problem.outcome == "skipped"
        assert "needs the package odd-reader" in problem.reason and "-m pip install odd-reader" in problem.reason
        (tmp_path / "installed").mkdir()
        report = await engine.index()
    assert (report.indexed, report.skipped) == (1, 0)


async def test_names_that_differ_by_normal_form_only_are_two_files(tmp_path: Path, folder: Path) -> None:
    for form, word in (("NFC", "composed"), ("NFD", "decomposed")):
        name = unicodedata.normalize(form, "résumé.md")
        (folder / name).write_text(f"the {word} one\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        assert (await engine.index()).indexed == 2
        hit = (await ask(engine, "decomposed", "keyword")).hits[0]
        assert names([hit]) == [unicodedata.normalize("NFD", "résumé.md")]
        assert "the decomposed one" in (await engine.read(hit.path)).text


async def test_a_path_in_another_normal_form_is_read_when_only_one_file_is_meant(tmp_path: Path, folder: Path) -> None:
    name = unicodedata.normalize("NFD", "café.md")
    (folder / name).write_text("strong\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        reading = await engine.read(str(folder / unicodedata.normalize("NFC", "café.md")))
    assert (reading.path, reading.text) == (str(folder / name), "strong")


@pytest.mark.parametrize("days", [3650, -3650], ids=["into the future", "back"])
async def test_a_clock_that_jumps_hides_no_change(tmp_path: Path, folder: Path, days: int) -> None:
    note = folder / "note.md"
    note.write_text("the old word", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        note.write_text("the new word", encoding="utf-8")  # as long as before: only its time differs
        os.utime(note, (time.time() + days * 86400,) * 2)
        assert (await engine.index()).work.files_read == 1
        assert "new word" in (await ask(engine, "word", "keyword")).hits[0].snippet
        assert (await engine.index()).work.files_read == 0


@pytest.mark.slow
async def test_an_edit_elsewhere_does_not_wait_for_the_whole_of_a_big_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_pass, "SLICE_S", 0.0)
    small = tmp_path / "small"
    small.mkdir()
    (small / "note.md").write_text("the one note", encoding="utf-8")
    for number in range(24):
        (folder / f"{number:02}.md").write_text(f"note number {number}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder, small) as engine:
        report = await engine.index()
        assert (report.indexed, report.failed) == (25, 0)
        rows = {Path(row.path).name: row.indexed_at for row in await engine._components.store.files()}
        assert rows["note.md"] < rows["23.md"], "the second folder had its turn before the first was done"
        assert [f.state for f in engine.status().folders] == ["ready", "ready"]
        (folder / "05.md").unlink()
        (folder / "new.md").write_text("a new one", encoding="utf-8")
        assert (await engine.index()).work.files_read == 1
        assert "05.md" not in {Path(row.path).name for row in await engine._components.store.files()}


@pytest.mark.slow
async def test_a_few_small_files_are_read_without_starting_a_process(tmp_path: Path, folder: Path) -> None:
    for number in range(4):
        (folder / f"{number}.md").write_text(f"note number {number}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        assert (await engine.index()).indexed == 4
        assert parsed(engine) == 0
        (folder / "letter.eml").write_text("Subject: x\n\nwords\n", encoding="utf-8")
        assert (await engine.index()).indexed == 5
        assert parsed(engine) == 1


@pytest.mark.slow
async def test_plain_text_that_kills_a_process_costs_that_file(tmp_path: Path, folder: Path) -> None:
    (folder / "crash.txt").write_text("words", encoding="utf-8")
    for number in range(6):
        (folder / f"{number}.md").write_text(f"note number {number}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder, config=hostile(tmp_path)) as engine:
        report = await engine.index()
        assert report.indexed == 6
        assert [(Path(p.path).name, p.attempts) for p in report.problems] == [("crash.txt", 2)]
