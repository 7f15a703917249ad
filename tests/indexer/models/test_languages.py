"""What languages a model was made for, and above all: when nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.models.catalogue import card_languages, entries, languages_of


def test_every_english_model_of_the_catalogue_is_known_as_english_by_both_its_names() -> None:
    english = [entry for entry in entries() if entry.languages == "English"]
    assert len(english) >= 6
    for entry in english:
        assert languages_of(entry.name) == languages_of(entry.repo) == {"en"}, entry.name


def test_a_model_of_many_languages_has_no_codes_and_one_of_few_has_them_all() -> None:
    for entry in entries():
        many = "about" in entry.languages or "more than" in entry.languages
        assert bool(entry.language_codes) != many, entry.name
        assert all(len(code) == 2 and code.islower() for code in entry.language_codes), entry.name


@pytest.mark.parametrize(
    ("front", "known"),
    [
        ("language: en", {"en"}),
        ("language: en  # English only\nlicense: mit", {"en"}),
        ("license: mit\nlanguage:\n- en\n- de\ntags:\n- fr", {"en", "de"}),
        ("language:\n  - zh-Hans\n  - 'pt_BR'\n\nlicense: mit", {"zh", "pt"}),
        ('language: [en, "deu", code]\ntags: [fr]', {"en", "de"}),
        ("language: [\n  en,\n  nb\n]\npipeline_tag: x", {"en", "no"}),
        ("language:\n- multilingual\n- en", None),
        ("language:\n- en\n- xyz", None),
        ("language: code", None),
        ("language:\nlicense: en", None),
        ("license: mit", None),
    ],
)
def test_a_card_tells_its_languages_or_nothing(front: str, known: set[str] | None) -> None:
    assert card_languages(f"---\n{front}\n---\n# Model\nlanguage: fr\n") == known


def test_text_outside_the_front_matter_says_nothing() -> None:
    assert card_languages("# Model\n\nlanguage: en\n") is None
    assert card_languages("---\nlanguage: en\n") is None


def test_a_local_model_is_known_by_the_card_beside_its_weights(tmp_path: Path) -> None:
    assert languages_of(str(tmp_path), tmp_path) is None
    (tmp_path / "README.md").write_text("---\r\nlanguage:\r\n- de\r\n---\r\n", encoding="utf-8")
    assert languages_of(str(tmp_path), tmp_path) == {"de"}
    assert languages_of("bge-m3", tmp_path) is None
