"""Files replaced whole, vectors that follow their text, a queue that is derived."""

import dataclasses
from pathlib import Path

import anyio
import numpy as np
import pytest
from index_data import DIM, FOLDER, row, vectors_of, written

from indexer.errors import StoreError
from indexer.store.store import Store, open_store
from indexer.types import FileWrite, Scope, StoredChunk


async def embed_all(store: Store, key: str = "m", folder: str = FOLDER) -> list[StoredChunk]:
    chunks = await store.pending(key, DIM, folder)
    await store.add_vectors(key, DIM, [(chunks, vectors_of(chunks))])
    return chunks


async def texts(store: Store, name: str) -> list[str]:
    return [chunk.text for chunk in await store.chunks_of(f"{FOLDER}/{name}")]


async def test_what_is_written_comes_back_also_after_reopening(tmp_path: Path) -> None:
    first = written("a.md", "one two", "three")
    failed = dataclasses.replace(written("b.pdf"), row=row("/x/b.pdf", outcome="failed", reason="no text", attempts=2))
    async with open_store(tmp_path) as store:
        made = await store.replace([first, failed])
        assert (made.files, made.chunks, made.kept, made.removed) == (2, 2, 0, 0)
    async with open_store(tmp_path) as store:
        assert sorted(await store.files(), key=lambda f: f.path) == [first.row, failed.row]
        assert await store.chunks_of(first.row.path) == list(made.added)
        assert [chunk.locator for chunk in made.added] == ["lines 1", "lines 2"]
        assert (await store.counts()).chunks == {FOLDER: 2}


async def test_replacing_a_file_with_fewer_chunks_leaves_none_of_the_old(store: Store) -> None:
    await store.replace([written("a.md", "apple", "berry", "cherry")])
    made = await store.replace([written("a.md", "cherry")])
    assert (made.kept, made.removed, made.added) == (1, 2, ())
    assert await texts(store, "a.md") == ["cherry"]
    assert await store.search_text(["apple"], Scope(), 5) == []
    assert len(await store.search_text(["cherry"], Scope(), 5)) == 1
    assert len(await store.files()) == 1
    await store.replace([written("a.md", "apple", "cherry")])  # from a tombstone back to life
    assert await texts(store, "a.md") == ["apple", "cherry"]
    assert store.chunk_count(FOLDER) == 2


async def test_small_edit_keeps_the_ids_and_vectors_of_all_other_chunks(store: Store) -> None:
    before = (await store.replace([written("a.md", "one", "two", "two", "three")])).added
    await embed_all(store)
    made = await store.replace([written("a.md", "zero", "one", "two", "two", "three", first_line=7)])
    after = await store.chunks_of(f"{FOLDER}/a.md")
    assert [chunk.text for chunk in made.added] == ["zero"]
    assert [chunk.chunk_id for chunk in after[1:]] == [chunk.chunk_id for chunk in before]
    assert [chunk.locator for chunk in after] == [f"lines {n}" for n in range(7, 12)]
    assert [chunk.text for chunk in await store.pending("m", DIM, FOLDER)] == ["zero"]
    assert (store.chunk_count(FOLDER), store.embedded_count("m", FOLDER)) == (5, 4)


async def test_rows_that_did_not_change_are_not_written_again(store: Store) -> None:
    await store.replace([written("a.md", "one", "two", "three")])
    written_before = (await store.statistics()).chunks.written
    await store.replace([written("a.md", "one", "two", "three", "four")])
    assert (await store.statistics()).chunks.written - written_before == 2  # the file row and the new chunk


@pytest.mark.parametrize("texts", [("one", "drei", "three"), ("one", "three"), ("one", "two"), ("two", "three")])
async def test_rows_with_tokens_of_changed_neighbours_are_written_again(store: Store, texts: tuple[str, ...]) -> None:
    def lease(*texts: str) -> FileWrite:
        write = written("a.md", *texts)
        words = " ".join(texts)
        return FileWrite(write.row, write.chunks, (words,) * len(texts), (2,) * len(texts))

    await store.replace([lease("one", "two", "three")])
    await store.replace([lease(*texts)])
    for word in ("one", "two", "three", "drei"):
        assert len(await store.search_text([word], Scope(), 5)) == (len(texts) if word in texts else 0), word


async def test_rows_beyond_the_reach_of_a_change_are_not_written_again(store: Store) -> None:
    def lease(*texts: str) -> FileWrite:
        write = written("a.md", *texts)
        return FileWrite(write.row, write.chunks, write.tokens, (1,) * len(texts))

    await store.replace([lease("one", "two", "three", "four", "five")])
    written_before = (await store.statistics()).chunks.written
    await store.replace([lease("one", "two", "three", "four", "fünf")])
    # The file row, the new chunk, the lost one's tombstone, its neighbour.
    assert (await store.statistics()).chunks.written - written_before == 4


async def test_new_recipe_writes_the_tokens_of_unchanged_chunks_again(store: Store) -> None:
    write = written("a.md", "one")
    await store.replace([write])
    changed = dataclasses.replace(write, row=dataclasses.replace(write.row, recipe="r2"), tokens=("uno",))
    await store.replace([changed])
    assert len(await store.search_text(["uno"], Scope(), 5)) == 1


async def test_rename_takes_the_vectors_along_in_either_order(store: Store) -> None:
    await store.replace([written("old.md", "alpha", "beta")])
    await embed_all(store)
    for order in ("write first", "remove first"):
        old, new = ("old.md", "new.md") if order == "write first" else ("new.md", "newer.md")
        if order == "remove first":
            await store.remove([f"{FOLDER}/{old}"])
        await store.replace([written(new, "alpha", "beta")])
        waiting = await store.pending("m", DIM, FOLDER)
        assert len(waiting) == 2, order
        ids = {chunk.chunk_id for chunk in waiting}
        assert await store.reuse_vectors("m", DIM, waiting) == (ids, len(ids))
        assert await store.reuse_vectors("m", DIM, waiting) == (ids, 0)  # asked again: they have theirs already
        await store.remove([f"{FOLDER}/{old}"])
        assert await store.pending("m", DIM, FOLDER) == []
        found = await store.search_vectors("m", DIM, vectors_of(["alpha"])[0], Scope(), 1)
        assert [(s.chunk.path, round(s.score, 4)) for s in found] == [(f"{FOLDER}/{new}", 1.0)]
    assert store.pending_count("m", FOLDER) == 0


async def test_queue_is_the_chunks_without_a_vector_however_they_came_about(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.replace([written(f"{n}.md", f"text {n}", f"more {n}") for n in range(5)])
        first = await store.pending("m", DIM, FOLDER, 3)
        assert len(first) == 3 == len(await store.pending("m", DIM, FOLDER, 3))
        await store.add_vectors("m", DIM, [(first[1:], vectors_of(first[1:]))])  # out of order
        rest = {chunk.chunk_id for chunk in await store.pending("m", DIM, FOLDER)}
        assert len(rest) == 8
        assert first[0].chunk_id in rest
        late = (await store.replace([written("late.md", "late")])).added[0]
        await store.remove([f"{FOLDER}/4.md"])
        expected = {chunk.chunk_id for chunk in await store.pending("m", DIM, FOLDER)}
        assert late.chunk_id in expected
        assert len(expected) == 7 == store.pending_count("m", FOLDER)
        assert await store.pending("other", 8, FOLDER, 100) != []
        counts = await store.counts()
    async with open_store(tmp_path) as store:
        assert {chunk.chunk_id for chunk in await store.pending("m", DIM, FOLDER)} == expected
        assert await store.counts() == counts


async def test_vector_of_a_chunk_that_went_meanwhile_is_not_written_and_none_is_written_twice(store: Store) -> None:
    await store.replace([written("a.md", "one", "two")])
    chunks = await store.pending("m", DIM, FOLDER)
    await store.replace([written("a.md", "one")])
    assert await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))]) == 1
    assert await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))]) == 0
    assert store.embedded_count("m", FOLDER) == 1
    assert (await store.statistics()).vectors["m"].rows == 1


async def test_counts_follow_a_chunk_that_goes_and_comes_back(store: Store) -> None:
    await store.replace([written("a.md", "one", "two")])
    await embed_all(store)
    await store.replace([written("a.md", "one")])
    assert (store.chunk_count(FOLDER), store.embedded_count("m", FOLDER)) == (1, 1)
    await store.replace([written("a.md", "one", "two")])
    assert (store.chunk_count(FOLDER), store.embedded_count("m", FOLDER)) == (2, 2)
    assert await store.pending("m", DIM, FOLDER) == []


async def test_touch_changes_the_file_row_and_nothing_else(store: Store) -> None:
    write = written("a.md", "one")
    await store.replace([write])
    newer = dataclasses.replace(write.row, mtime_ns=99)
    await store.touch([newer, row("/unknown.md")])
    assert await store.files() == [newer]
    assert await texts(store, "a.md") == ["one"]


async def test_removed_folder_is_gone_with_its_vectors_and_no_other_is(store: Store) -> None:
    await store.replace([written("a.md", "one"), written("b.md", "one two", folder="/home/me/notes2")])
    await embed_all(store)
    await embed_all(store, folder="/home/me/notes2")
    assert await store.remove_folder(FOLDER) == 1
    assert [file.folder for file in await store.files()] == ["/home/me/notes2"]
    assert (await store.statistics()).vectors["m"].rows == 1
    assert (await store.counts()).embedded == {"m": {"/home/me/notes2": 1}}


async def test_dropped_vectors_of_a_model_are_pending_again(store: Store) -> None:
    await store.replace([written("a.md", "one")])
    await embed_all(store, "m")
    await embed_all(store, "n")
    assert await store.vector_keys() == ["m", "n"]
    assert await store.drop_vectors("m", FOLDER) == 1
    assert len(await store.pending("m", DIM, FOLDER)) == 1
    assert store.embedded_count("n", FOLDER) == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 2.0, 0.0])
async def test_vectors_that_are_not_finite_or_not_of_unit_length_are_refused(store: Store, wrong: float) -> None:
    await store.replace([written("a.md", "one")])
    chunks = await store.pending("m", DIM, FOLDER)
    matrix = vectors_of(chunks)
    matrix[0, 0] = wrong
    with pytest.raises(StoreError, match="instead of 1"):
        await store.add_vectors("m", DIM, [(chunks, matrix * (0 if wrong == 0 else 1))])
    with pytest.raises(StoreError, match="shape"):
        await store.add_vectors("m", DIM, [(chunks, vectors_of(["x", "y"]))])
    with pytest.raises(StoreError, match="32 dimensions"):
        await store.pending("m", 8, FOLDER)
    assert store.embedded_count("m", FOLDER) == 0


@pytest.mark.slow
async def test_no_reader_sees_none_both_or_a_mixture_while_files_are_replaced(tmp_path: Path) -> None:
    generations, bad = set(), []

    async with open_store(tmp_path) as store, open_for_reading(tmp_path, store) as reader:

        async def read(stop: anyio.Event) -> None:
            while not stop.is_set():
                seen = [(c.ordinal, c.text) for c in await reader.chunks_of(f"{FOLDER}/a.md")]
                found = {s.chunk.text for s in await reader.search_text(["always"], Scope(), 50)}
                number = seen[0][1].split()[1] if seen else "none"
                size = 2 + int(number) % 4 if seen else 0
                if seen != [(n, f"always {number} {n}") for n in range(size)]:
                    bad.append(seen)
                if len({text.split()[1] for text in found}) != 1:
                    bad.append(found)
                generations.add(number)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                stop = anyio.Event()
                tasks.start_soon(read, stop)
                tasks.start_soon(read, stop)
                for number in range(40):
                    lines = [f"always {number} {n}" for n in range(2 + number % 4)]
                    await store.replace([written("a.md", *lines)])
                stop.set()
    assert not bad
    assert len(generations) > 5


def open_for_reading(directory: Path, store: Store):
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened():
        await store.replace([written("a.md", "always 0 0", "always 0 1")])
        async with open_store(directory, read_only=True) as reader:
            yield reader

    return opened()


async def test_cancelled_write_leaves_counts_that_agree_with_the_tables(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.replace([written("a.md", "one")])
        for number in range(6):
            with anyio.move_on_after(0.002 * number):
                await store.replace([written("a.md", *(f"t {number} {n}" for n in range(number + 1)))])
        counts = await store.counts()
    async with open_store(tmp_path) as store:
        assert await store.counts() == counts


async def test_folder_seen_before_under_another_name_takes_all_its_vectors_at_once(store: Store) -> None:
    lines = [f"text {n}" for n in range(30)]
    await store.replace([written("a.md", *lines)])
    await embed_all(store)
    await store.replace([written("b.md", *lines, "new here", folder="/home/me/renamed")])
    assert await store.reuse_pending("m", DIM, "/home/me/renamed") == 30
    assert await store.reuse_pending("m", DIM, "/home/me/renamed") == 0
    assert [chunk.text for chunk in await store.pending("m", DIM, "/home/me/renamed")] == ["new here"]
    assert await store.reuse_pending("other", DIM, FOLDER) == 0


async def test_index_that_is_deleted_under_the_store_is_a_clear_error(store: Store) -> None:
    import shutil

    await store.replace([written("a.md", "one")])
    shutil.rmtree(store.directory / "tables")
    for call in (store.files(), store.search_text(["one"], Scope(), 5), store.replace([written("a.md", "two")])):
        with pytest.raises(StoreError, match="missing or damaged") as gone:
            await call
        assert gone.value.code == "damaged"
        assert "registry" not in str(gone.value)
