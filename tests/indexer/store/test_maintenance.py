"""Maintenance: little by little the tables stay small and fast, and a failure of it stops nothing."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import anyio
import numpy as np
import pytest
from disks import small_disk
from index_data import DIM, FOLDER, row, vectors_of, written
from lancedb.index import IvfRq

from indexer.errors import StoreError
from indexer.store.files_on_disk import sync_files, tree_bytes
from indexer.store.maintenance import EXACT, Maintenance, WriteLock
from indexer.store.schema import VECTOR_INDEX
from indexer.store.store import Store, open_store
from indexer.store.table import ERASE_AFTER_S, Fragmentation
from indexer.types import Scope


async def segments(store: Store, key: str = "") -> dict[str, int]:
    """Segments of each index of the vectors of a model, or of the chunks."""
    statistics = await store.statistics()
    table = statistics.vectors[key] if key else statistics.chunks
    return {name: index.segments for name, index in table.indexes.items()}


async def test_tombstones_and_orphans_go_and_the_rest_stays(store: Store) -> None:
    await store.replace([written("a.md", "one", "two", "three"), written("b.md", "four")])
    chunks = await store.pending("m", DIM, FOLDER)
    await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
    await store.replace([written("a.md", "one")])
    await store.remove([f"{FOLDER}/b.md"])
    counts = await store.counts()
    await store.maintain(force=True)
    statistics = await store.statistics()
    assert statistics.chunks.rows == 2  # a file row and its chunk
    assert statistics.vectors["m"].rows == 1
    assert await store.counts() == counts
    assert len(await store.search_text(["one"], Scope(), 5)) == 1
    assert store.maintenance.last is not None
    assert store.maintenance.last_error == ""
    assert store.disk_bytes == tree_bytes(store.directory / "tables")


@pytest.mark.slow
async def test_fifty_commits_are_joined_when_there_is_rest(store: Store) -> None:
    for number in range(50):
        await store.replace([written(f"{number}.md", f"word {number}")])
        if number == 15:
            assert not store.maintenance_due()
        if store.maintenance_due():
            await store.maintain()
    assert (await store.statistics()).chunks.fragments <= 21
    assert not store.maintenance_urgent()
    assert len(await store.search_text(["word"], Scope(), 100)) == 50
    assert set((await segments(store)).values()) == {1}


def test_writing_forces_maintenance_less_often_the_larger_the_table() -> None:
    assert not Fragmentation(commits=99, rows=7999).due(idle=False)
    assert Fragmentation(commits=100).due(idle=False)
    assert Fragmentation(rows=8000).due(idle=False)
    assert not Fragmentation(rows=29_999, rows_at_maintenance=30_000).due(idle=False)
    assert Fragmentation(rows=30_000, rows_at_maintenance=30_000).due(idle=False)
    assert Fragmentation(rows=100_000, rows_at_maintenance=10_000_000).due(idle=False)
    assert Fragmentation(commits=300, rows_at_maintenance=10_000_000).due(idle=False)
    assert Fragmentation(commits=20).due(idle=True)
    assert Fragmentation(rows=200).due(idle=True)
    assert not Fragmentation(commits=19, rows=199).due(idle=True)
    assert not Fragmentation(commits=19, rows=1999, rows_at_maintenance=100_000).due(idle=True)
    assert Fragmentation(rows=2000, rows_at_maintenance=100_000).due(idle=True)
    assert Fragmentation(commits=60, rows_at_maintenance=10_000_000).due(idle=True)
    assert Fragmentation(commits=1, first_commit_at=time.monotonic() - ERASE_AFTER_S).due(idle=True)
    assert not Fragmentation(commits=1, first_commit_at=time.monotonic()).due(idle=True)
    assert not Fragmentation(commits=500, not_before=float("inf")).due(idle=False)
    assert Fragmentation(old_versions_expire_at=0.0).due(idle=True)
    assert not Fragmentation(old_versions_expire_at=float("inf")).due(idle=True)


@pytest.mark.slow
async def test_vector_index_is_trained_when_there_are_enough_and_again_when_they_double(store: Store) -> None:
    rng = np.random.default_rng(1)

    async def grow(to: int) -> None:
        await store.replace(
            [written(f"{to}-{n}.md", *(f"{to} {n} {k}" for k in range(EXACT // 10))) for n in range(10)]
        )
        chunks = await store.pending("m", 8, FOLDER)
        matrix = rng.standard_normal((len(chunks), 8)).astype(np.float32)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        await store.add_vectors("m", 8, [(chunks, matrix)])

    await store.replace([written("few.md", "few")])
    assert len(await store.pending("m", 8, FOLDER)) == 1
    await grow(1)
    assert f"{VECTOR_INDEX}5001" not in await segments(store, "m")
    await store.maintain(force=True)
    assert (await segments(store, "m"))[f"{VECTOR_INDEX}5001"] == 1
    await store.maintain(force=True)
    assert (await segments(store, "m"))[f"{VECTOR_INDEX}5001"] == 1
    await grow(2)
    await grow(3)
    await store.maintain(force=True)
    names = await segments(store, "m")
    assert names[f"{VECTOR_INDEX}15001"] == 1
    assert f"{VECTOR_INDEX}5001" not in names


async def test_vector_index_of_an_earlier_kind_is_replaced(store: Store) -> None:
    store.maintenance.exact = 50
    await store.replace([written("a.md", *(f"word{n}" for n in range(60)))])
    chunks = await store.pending("m", DIM, FOLDER)
    await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
    table = store._vectors["m"].table
    await table.create_index("vector", config=IvfRq(distance_type="cosine", num_partitions=1), name="vector_60")
    await store.maintain(force=True)
    assert f"{VECTOR_INDEX}60" in await segments(store, "m")
    assert "vector_60" not in await segments(store, "m")
    assert len(await store.search_vectors("m", DIM, vectors_of(["word3"])[0], Scope(), 5)) == 5


@pytest.mark.slow
async def test_vector_index_in_too_many_parts_is_made_anew(store: Store) -> None:
    await store.replace([written(f"{n}.md", *(f"{n} {k}" for k in range(600))) for n in range(9)])
    chunks = await store.pending("m", DIM, FOLDER)
    matrix = vectors_of(chunks)
    await store.add_vectors("m", DIM, [(chunks[:5001], matrix[:5001])])
    seen = set()
    for at in range(5001, 5400, 33):
        await store.maintain(force=True)
        found = await segments(store, "m")
        seen |= {count for name, count in found.items() if name.startswith(VECTOR_INDEX)}
        await store.add_vectors("m", DIM, [(chunks[at : at + 33], matrix[at : at + 33])])
    assert max(seen) <= 9
    assert {1, 2, 3} <= seen


async def test_too_little_disk_passes_maintenance_over_with_the_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.replace([written("a.md", "one")])
    usage = shutil.disk_usage(store.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))  # the system's answer, not our code
    with pytest.raises(StoreError, match="free disk") as refusal:
        await store.maintain(force=True)
    assert refusal.value.code == "disk_full"
    assert "free disk" in store.maintenance.last_error
    assert store.maintenance.failures == 1
    assert not store.maintenance_due()
    assert len(await store.search_text(["one"], Scope(), 5)) == 1


async def test_maintenance_that_was_cancelled_is_made_up_for(store: Store) -> None:
    for number in range(5):
        await store.replace([written(f"{number}.md", "word")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: store.maintain(force=True))
        with anyio.fail_after(5):
            while not store._chunks.fragmentation.has_orphaned_files:  # until it has begun with a table
                await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    assert store.maintenance_due()
    await store.maintain()
    assert not store.maintenance_due()
    assert len(await store.search_text(["word"], Scope(), 9)) == 5


async def test_writes_and_searches_go_on_during_maintenance(store: Store) -> None:
    await store.replace([written(f"{n}.md", "word") for n in range(300)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: store.maintain(force=True))
        for number in range(5):
            await store.replace([written(f"late{number}.md", "late")])
            assert len(await store.search_text(["word"], Scope(), 400)) == 300
    assert len(await store.search_text(["late"], Scope(), 9)) == 5


def test_what_was_written_is_flushed_and_what_vanishes_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    sync_files(tmp_path, 0.0)
    assert tree_bytes(tmp_path) == 3


async def test_full_disk_is_told_and_passes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=6m") as place:
        async with open_store(place) as store:
            await store.replace([written("a.md", "one")])
            ballast = place / "ballast"
            with pytest.raises(StoreError) as full:
                ballast.write_bytes(os.urandom(5_500_000))
                for number in range(100):
                    await store.replace([written(f"{number}.md", *(f"{number} {k}" * 50 for k in range(200)))])
            assert full.value.code == "disk_full"
            before = await store.counts()
            assert len(await store.search_text(["one"], Scope(), 5)) >= 1
            assert {f.path for f in await store.files()} >= {row(f"{FOLDER}/a.md").path}
            ballast.unlink()
            await store.replace([written("after.md", "after")])
            assert len(await store.search_text(["after"], Scope(), 5)) == 1
            assert store.chunk_count(FOLDER) == before.chunks[FOLDER] + 1


async def test_removed_text_is_gone_from_the_disk_after_cleaning_up(store: Store) -> None:
    secret = b"swordfish-7315"

    def on_disk() -> bool:
        return any(secret in file.read_bytes() for file in store.directory.rglob("*") if file.is_file())

    await store.replace([written("a.md", secret.decode()), written("b.md", "harmless")])
    assert on_disk()
    await store.remove([f"{FOLDER}/a.md"])
    for _ in range(2):  # the first may come within the millisecond for which versions are kept
        await Maintenance(store._tables.connection, timedelta(milliseconds=1)).run(
            store._chunks, [], WriteLock(), force=True
        )
    assert not on_disk()
    assert [file.path for file in await store.files()] == [f"{FOLDER}/b.md"]


async def test_index_that_has_changed_on_disk_is_not_grown_but_made_anew(store: Store) -> None:
    await store.replace([written("a.md", "one"), written("b.md", "two")])
    await store.maintain(force=True)
    for page in (store.directory / "tables" / "chunks.lance" / "_indices").glob("*/page_data.lance"):
        page.write_bytes(page.read_bytes()[:-1] + b"!")
    await store.replace([written("c.md", "three")])
    with pytest.raises(StoreError) as met:
        await store.maintain(force=True)
    assert met.value.code == "damaged"
    assert store.health.damage_suspected.is_set()
    await store.repair()
    await store.maintain(force=True)
    assert {len(await store.chunks_of(f"{FOLDER}/{name}.md")) for name in "abc"} == {1}


async def test_index_that_cannot_be_updated_is_made_anew_once(store: Store) -> None:
    await store.replace([written("a.md", "one"), written("b.md", "two")])
    await store.maintain(force=True)
    index = max(
        (store.directory / "tables" / "chunks.lance" / "_indices").iterdir(), key=lambda p: len(list(p.iterdir()))
    )
    for file in index.iterdir():
        file.write_bytes(b"")
    store.maintenance._checksums.files.clear()  # as of an index that was written since the last upkeep
    await store.replace([written("c.md", "three")])
    await store.maintain(force=True)
    assert store.maintenance.failures == 1
    assert len(await store.search_text(["one", "three"], Scope(), 5)) == 2


@pytest.mark.slow
async def test_deleted_text_is_erased_even_from_a_large_fragment_and_nothing_of_it_is_on_the_disk(
    store: Store,
) -> None:
    secret = "zebrafish7315quixotic"

    def marked() -> int:
        """Files that mark rows as deleted, which are still there then; compressed text itself cannot be looked for."""
        return sum(len(list(table.glob("_deletions/*"))) for table in (store.directory / "tables").iterdir())

    store.maintenance.keep = timedelta(milliseconds=1)
    await store.replace([written(f"{n}.md", *(f"{n} {k}" for k in range(10))) for n in range(60)])
    await store.replace([written("secret.md", secret)])
    chunks = await store.pending("m", DIM, FOLDER)
    await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
    await store.maintain(force=True)
    await store.remove([f"{FOLDER}/secret.md"])
    store._chunks.fragmentation.erased = store._vectors["m"].fragmentation.erased = 0.0  # an hour ago
    assert store.maintenance_due()
    await store.maintain()
    store._vectors["m"].fragmentation.erased = 0.0
    await store.maintain(force=True)
    await anyio.sleep(0.01)
    await store.maintain(force=True)
    assert marked() == 0
    statistics = await store.statistics()
    assert statistics.chunks.deleted == statistics.vectors["m"].deleted == 0
    assert len(await store.files()) == 60
    assert store.embedded_count("m", FOLDER) == 600


def test_deleted_text_waits_an_hour_at_most_for_its_erasure_when_there_is_rest() -> None:
    fragmentation = Fragmentation(deleted_rows=1, erased=time.time() - 3599)
    assert not fragmentation.due(idle=True)
    assert 0.0 < fragmentation.due_in() <= 2.0
    assert Fragmentation(deleted_rows=1, erased=time.time() - 3601).due(idle=True)
    assert not Fragmentation(deleted_rows=1, erased=time.time() - 3601).due(idle=False)
    assert Fragmentation(deleted_rows=1, erased=time.time() - 24 * 3601).due(idle=False)
    assert not Fragmentation(deleted_rows=0, erased=0.0).due(idle=True)


@pytest.mark.slow
async def test_writer_that_waits_breaks_maintenance_off_which_is_made_up_for(store: Store) -> None:
    """The turn as maintenance takes it: broken off after a second of somebody's waiting, not before."""
    write_lock, order = store._tables.write_lock, []
    async with anyio.create_task_group() as tasks:

        async def maintenance() -> None:
            async with write_lock.interruptible() as scope:
                order.append("upkeep")
                await anyio.sleep_forever()
            order.append(f"broken off: {scope.cancel_called}")

        tasks.start_soon(maintenance)
        while not order:
            await anyio.sleep(0)
        with anyio.fail_after(5):
            await store.replace([written("a.md", "one")])
        order.append("written")
    assert sorted(order) == ["broken off: True", "upkeep", "written"]
    assert 1.0 <= write_lock.longest_hold_s < 4.0
