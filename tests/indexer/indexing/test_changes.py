from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
from hostile import described
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import ModelSettings
from indexer.documents.pool import open_parsers
from indexer.documents.worker_protocol import ChunkedDocument, ChunkRequest, PreparedFile
from indexer.folders.state import LiveFolder
from indexer.indexing.changes import find_changes, index_entry, prepare_file
from indexer.models.spec import resolve
from indexer.models.tokenizer import open_tokenizer
from indexer.types import File, FileRow, FileWrite

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


def test_a_file_that_could_not_be_cut_as_it_should_be_is_read_at_the_next_scan() -> None:
    cut = ChunkedDocument((), (), "")
    for again in (False, True):
        entry = index_entry(row(file()), None, PreparedFile("plain/1", "bb", 3, 1, 0, cut, again))
        assert isinstance(entry, FileWrite)
        assert read_of([file()], entry.row) == (["/f/a.md"] if again else [])


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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
async def test_source_code_is_given_to_a_grammar_in_a_parser_process_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where other small files are read in this process, and where no process starts."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a grammar was used in this process")

    monkeypatch.setattr("indexer.text.chunk.code_segments", refuse)
    monkeypatch.setattr("indexer.text.chunk.grammar", refuse)
    tokens = open_tokenizer(resolve(ModelSettings().default))
    folder = cast("LiveFolder", SimpleNamespace(model=SimpleNamespace(tokens=tokens)))
    order = ChunkRequest(tokens.path, tokens.limit, tokens.stamp, "a.py")
    places = {name: tmp_path / name for name in ("a.py", "a.txt")}
    for place in places.values():
        body = "".join(f"    total = total + value_{number}\n" for number in range(60))
        place.write_text(f"def first():\n{body}\n\ndef second():\n{body}", encoding="utf-8")
    with anyio.fail_after(60):
        async with open_parsers() as parsers:
            await prepare_file(parsers, folder, described(places["a.txt"]), order, few_files=True)
            assert parsers.status().state == "stopped", "text needs no process"
            cut = (await prepare_file(parsers, folder, described(places["a.py"]), order, few_files=True)).chunked
            assert parsers.status().workers == 1
            assert cut is not None and "first" in cut.chunks[0].heading
        async with open_parsers(interpreter=str(tmp_path / "nowhere")) as parsers:
            prepared = await prepare_file(parsers, folder, described(places["a.py"]), order, few_files=True)
            plain = prepared.chunked
            assert prepared.again, "the next scan gives it to a grammar, if a process starts by then"
            text = await prepare_file(parsers, folder, described(places["a.txt"]), order, few_files=True)
            assert not text.again
            assert plain is not None and "value_59" in plain.chunks[-1].text
            assert not any(chunk.heading for chunk in plain.chunks)
