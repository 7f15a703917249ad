from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import QueryError
from indexer.types import Locator

numbers = st.integers(1, 99_999)
spans = st.one_of(st.just((0, 0)), st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair))))
names = st.text(min_size=1).filter(lambda text: "\n" not in text)
locators = st.one_of(
    st.tuples(numbers, numbers).map(lambda pair: Locator("lines", "", min(pair), max(pair))),
    st.builds(
        lambda kind, unit, span: Locator(kind, str(unit), *span),
        st.sampled_from(["page", "slide", "part", "cell"]),
        numbers,
        spans,
    ),
    st.builds(
        lambda kind, unit, span: Locator(kind, unit, *span), st.sampled_from(["sheet", "section"]), names, spans
    ),
)


@given(locators)
def test_a_locator_reads_back_as_itself(locator: Locator) -> None:
    assert Locator.parse(str(locator)) == locator


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("12-40", "lines 12-40"),
        ("L12-L40", "lines 12-40"),
        ("line 7", "lines 7"),
        ("p. 3", "page 3"),
        ("Page 3, lines 2-4", "page 3 lines 2-4"),
        ('sheet "Budget" row 5', 'sheet "Budget" rows 5'),
    ],
)
def test_other_ways_of_writing_it_are_understood(written: str, meant: str) -> None:
    assert str(Locator.parse(written)) == meant


@pytest.mark.parametrize(
    "written", ["", "  ", "page", "page x", "sheet 3", "chapter 2", "1-2-3", 'page "3"', "10 rows 3"]
)
def test_anything_else_is_refused_with_examples(written: str) -> None:
    with pytest.raises(QueryError, match="page 3"):
        Locator.parse(written)
