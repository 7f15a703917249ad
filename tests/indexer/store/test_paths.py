"""Any path goes in and the same path comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.schema import escape, fingerprint, hash_of, relative_name, replace_surrogates, unescape

ANY = st.text(
    st.one_of(st.characters(exclude_characters="\0", exclude_categories=()), st.sampled_from("\udc80\ud800\udfff"))
)


@given(ANY)
def test_escaped_path_is_valid_unicode_and_comes_back(path: str) -> None:
    escape(path).encode("utf-8")
    assert unescape(escape(path)) == path
    replace_surrogates(path).encode("utf-8")


@given(ANY, ANY)
def test_different_paths_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) is (one == other)
    assert (hash_of(one) == hash_of(other)) is (one == other)
    assert (fingerprint(one) == fingerprint(other)) is (one == other)


def test_lone_surrogate_is_written_as_nul_and_its_number() -> None:
    assert escape("a\udc80b") == "a\0dc80b"
    assert replace_surrogates("a\udc80b") == "a\ufffdb"


@pytest.mark.parametrize(
    ("folder", "path", "name"),
    [("/f", "/f/a/b.md", "a/b.md"), ("/f", "/f/b.md", "b.md"), ("/", "/b.md", "b.md"), ("/f", "/g/b.md", "g/b.md")],
)
def test_name_is_the_path_below_its_folder(folder: str, path: str, name: str) -> None:
    assert relative_name(folder, path) == name
