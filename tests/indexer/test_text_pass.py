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


async def test_a_file_whose_parser_died_is_read_once_more_at_once(tmp_path: Path, folder: Path) -> None:
    mail(folder, "flaky")
    async with engine_over(tmp_path / "data", folder, config=hostile(tmp_path)) as engine:
        report = await engine.index()
    assert (report.indexed, report.failed, report.problems) == (1, 0, ())


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
