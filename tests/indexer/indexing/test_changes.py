from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from indexer.indexing.changes import find_changes
from indexer.types import File, FileRow

RECIPE = "chunk/1 words/1 tok/256"


def file(path: str = "/f/a.md", size: int = 3, mtime_ns: int = 1) -> File:
    return File(path, "/f", size, mtime_ns)


def row(of: File, **changes: object) -> FileRow:
    made = FileRow(of.path, of.folder, of.size, of.mtime_ns, "aa", "plain/1", RECIPE, "indexed", "", 1, 0, 0.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def read_of(
    found: list[File], *known: FileRow, recipe: str = RECIPE, forced: frozenset[str] = frozenset()
) -> list[str]:
    return [f.path for f in find_changes(found, set(), {r.path: r for r in known}, recipe, forced).read]


def test_a_file_with_the_same_size_and_time_is_not_read() -> None:
    changes = find_changes([file()], set(), {"/f/a.md": row(file())}, RECIPE)
    assert (changes.read, changes.missing, changes.unchanged) == ((), (), 1)


def test_a_new_file_a_longer_one_and_a_younger_one_are_read() -> None:
    found = [file("/f/new"), file("/f/longer", size=4), file("/f/younger", mtime_ns=2)]
    known = [row(file("/f/longer")), row(file("/f/younger"))]
    assert read_of(found, *known) == ["/f/new", "/f/longer", "/f/younger"]


def test_a_file_that_failed_is_read_once_more_and_then_only_after_it_changed() -> None:
    failed = row(file(), outcome="failed", attempts=1)
    assert read_of([file()], failed) == ["/f/a.md"]
    assert read_of([file()], replace(failed, attempts=2)) == []
    assert read_of([file(mtime_ns=2)], replace(failed, attempts=2)) == ["/f/a.md"]


def test_a_new_chunker_reads_again_but_a_new_tokenizer_does_not() -> None:
    assert read_of([file()], row(file()), recipe="chunk/2 words/1 tok/256") == ["/f/a.md"]
    assert read_of([file()], row(file()), recipe="chunk/1 words/1 other/512") == []


def test_a_forced_file_is_read_whatever_its_time_says() -> None:
    assert read_of([file()], row(file()), forced=frozenset({"/f/a.md"})) == ["/f/a.md"]


def test_a_file_the_walk_refused_before_is_read_once_the_walk_lets_it_through() -> None:
    assert read_of([file()], row(file(), outcome="skipped", recipe="")) == ["/f/a.md"]


def test_what_the_walk_does_not_meet_is_gone_unless_it_was_refused_with_a_reason() -> None:
    known = {r.path: r for r in (row(file("/f/a")), row(file("/f/b")))}
    assert find_changes([], {"/f/b"}, known, RECIPE).missing == ("/f/a",)


files = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8
)


@given(files, files)
def test_after_the_changes_are_applied_nothing_is_left_to_do(before: dict, now: dict) -> None:  # type: ignore[type-arg]
    known = {f"/f/{name}": row(file(f"/f/{name}", *facts)) for name, facts in before.items()}
    found = [file(f"/f/{name}", *facts) for name, facts in now.items()]
    changes = find_changes(found, set(), known, RECIPE)
    for path in changes.missing:
        del known[path]
    known |= {f.path: row(f) for f in changes.read}
    again = find_changes(found, set(), known, RECIPE)
    assert (again.read, again.missing, again.unchanged) == ((), (), len(found))
