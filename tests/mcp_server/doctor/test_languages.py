from __future__ import annotations

import pytest

from indexer.errors import StoreError
from mcp_server.doctor.indexing import language_findings

ENGLISH = frozenset({"en"})


def test_a_model_that_does_not_fit_is_a_warning_with_its_remedy() -> None:
    found = list(
        language_findings({"/a": "m", "/b": "m"}, {"m": ENGLISH}, lambda: {"/a": {"ru": 90}, "/b": {"en": 90}})
    )
    assert [(each.name, each.verdict) for each in found] == [("model of /a", "warning")]
    assert "ru" in found[0].detail and "folder-mcp folders add" in found[0].remedy


def test_all_well_is_said_once_and_an_empty_or_broken_index_says_nothing() -> None:
    assert [f.verdict for f in language_findings({"/a": "m"}, {"m": ENGLISH}, lambda: {"/a": {"en": 90}})] == ["ok"]
    assert list(language_findings({"/a": "m"}, {"m": ENGLISH}, dict)) == []

    def broken() -> dict[str, dict[str, int]]:
        raise StoreError("cannot be read", "damaged")

    assert list(language_findings({"/a": "m"}, {"m": ENGLISH}, broken)) == []


def test_models_of_many_languages_need_no_look_at_the_index() -> None:
    def never() -> dict[str, dict[str, int]]:
        pytest.fail("looked")

    assert list(language_findings({"/a": "m"}, {"m": None}, never)) == []
