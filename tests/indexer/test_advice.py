"""Advice: given when a model does not fit, silent when nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from engines import engine_over

from indexer.models.catalogue import lookup
from indexer.status_report import advise, smallest_fitting_model

ENGLISH = frozenset({"en"})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_folder_of_german_with_an_english_model_gets_a_better_one_with_size_and_cost() -> None:
    found = advise("/my notes", "all-MiniLM-L6-v2", ENGLISH, {"de": 900, "en": 300}, 10.0)
    assert found is not None
    assert "75%" in found.fault and "de" in found.fault and "all-MiniLM-L6-v2" in found.fault
    model = smallest_fitting_model(frozenset({"de"}))
    assert model is not None
    for part in (model.name, "MB", "1,200 chunks", "about 2 min", f'add "/my notes" --model {model.name}'):
        assert part in found.remedy
    assert str(found) == f"{found.fault}. {found.remedy}"


@pytest.mark.parametrize(
    ("reads", "chunks"),
    [
        (None, {"de": 900}),
        (ENGLISH, {"en": 900, "de": 225}),
        (ENGLISH, {"": 900, "de": 200}),
        (ENGLISH, {"de": 19}),
        (ENGLISH, {}),
        (frozenset({"de", "en"}), {"de": 500, "en": 500}),
    ],
)
def test_nothing_is_said_of_what_fits_or_is_unknown(reads: frozenset[str] | None, chunks: dict[str, int]) -> None:
    assert advise("/f", "m", reads, chunks, 1.0) is None


def test_just_over_a_fifth_is_said() -> None:
    assert advise("/f", "m", ENGLISH, {"en": 900, "de": 130, "ru": 100}, 0.0) is not None
    unknown = advise("/f", "m", ENGLISH, {"ru": 100}, 0.0)
    assert unknown is not None and "time not known yet" in unknown.remedy


def test_the_better_model_needs_no_account_and_no_code_of_its_own_and_reads_everything() -> None:
    for languages in (frozenset({"de"}), frozenset({"ru", "zh", "en"}), ENGLISH):
        model = smallest_fitting_model(languages)
        assert model is not None and not model.gated and not model.remote_code
        assert not model.language_codes or languages <= set(model.language_codes)
    assert lookup("all-MiniLM-L6-v2") not in (smallest_fitting_model(frozenset({"de"})),)


def write(folder: Path, name: str, sentences: Sequence[str]) -> None:
    parts = [f"# Teil {n}\n\n" + f"{sentence} " * 12 for n, sentence in enumerate(sentences)]
    (folder / name).write_text("\n\n".join(parts), encoding="utf-8")


GERMAN = [f"Das ist der Satz von Nummer {n}, und er ist nicht sehr lang, aber er ist da." for n in range(30)]


@pytest.mark.slow
async def test_status_advises_after_the_first_scan_and_remembers_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "notizen"
    folder.mkdir()
    write(folder, "alles.md", GERMAN)
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        first = engine.status().folders[0]
    assert first.chunks >= 20 and len(first.advice) == 1
    assert f"{first.chunks:,} chunks to embed anew" in first.advice[0] and "(de)" in first.advice[0]
    async with engine_over(tmp_path / "data") as engine:
        report = await engine.index()
        again = engine.status().folders[0]
        assert report.work.files_read == 0 and again.advice and "100%" in again.advice[0]
        (folder / "alles.md").unlink()
        (folder / "english.md").write_text("It was all in the city, and he did not know of it.", encoding="utf-8")
        await engine.index()
        assert engine.status().folders[0].advice == ()
