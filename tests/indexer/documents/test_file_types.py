from __future__ import annotations

import pytest

from indexer.documents.formats import _NAMED, KINDS, SUFFIXES, suffixes_of
from indexer.errors import QueryError


def test_suffixes_with_or_without_dot_and_star_are_the_same() -> None:
    assert suffixes_of(["pdf", ".PDF", "*.pdf", " md "]) == ("pdf", "md")


def test_a_kind_is_all_its_suffixes_and_with_a_dot_it_is_only_the_suffix() -> None:
    assert {"docx", "odt", "pdf"} <= set(suffixes_of(["documents"]))
    assert {"py", "rs", "kt"} <= set(suffixes_of(["Code"])) and "pdf" not in suffixes_of(["code"])
    assert set(suffixes_of(["html"])) == {"html", "htm", "xhtml", "xht"}
    assert suffixes_of([".html"]) == ("html",)
    assert set(suffixes_of(["markdown"])) >= {"md", "markdown"}
    assert set(suffixes_of(["python"])) == {"py", "pyi", "pyw", "pyx"}


def test_an_unknown_suffix_is_taken_as_it_is() -> None:
    assert suffixes_of(["xyz"]) == ("xyz",)


@pytest.mark.parametrize("name", ["", "a/b", "**", "*.tar.gz", "x" * 40, "'"])
def test_what_is_no_suffix_is_refused_with_the_kinds_there_are(name: str) -> None:
    with pytest.raises(QueryError, match="slides"):
        suffixes_of([name])


def test_every_suffix_of_a_kind_is_one_that_is_read() -> None:
    for kind, suffixes in _NAMED.items():
        for suffix in suffixes.split():
            assert suffix in SUFFIXES and SUFFIXES[suffix].family != "binary", (kind, suffix)
    assert "binary" not in KINDS and "plain" not in KINDS
