"""Every file of a real index damaged in every way, before it is opened and while it is open."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import lancedb
import pytest
from damaged_index import WAYS, Contents, contents, files, fill, flipped, one_of_each, recover
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreError
from indexer.store.health import COPIES, quarantine, quarantine_directories
from indexer.store.store import open_store
from indexer.types import Scope

PROGRAM = Path(__file__).resolve().parents[2] / "support" / "damaged_index.py"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """An index with everything in it that an index can have: tombstones' deletions, a tail, a vector index."""
    place = tmp_path_factory.mktemp("grown")

    async def make() -> Contents:
        async with open_store(place) as store:
            store.maintenance.exact = 50
            await store.replace([*files(), written("gone.md", "gone for good")])
            chunks = await store.pending("m", DIM, FOLDER)
            await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
            await store.maintain(force=True)
            await store.remove([f"{FOLDER}/gone.md"])
            await store.maintain(force=True)
            await store.replace([files()[3]])
            return await contents(store)

    return place, anyio.run(make)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [way.__name__ for way in WAYS])
def test_whatever_file_is_damaged_the_index_ends_as_a_fresh_one(
    grown: tuple[Path, Contents], tmp_path: Path, way: str
) -> None:
    """Each file either before the index is opened or in the middle of work, in turn."""
    original, expected = grown
    assert {"_versions", "_indices", "data", "_deletions", "_transactions"} <= {
        name.parts[2] for name in one_of_each(original)
    }
    (tmp_path / "expected").write_text(json.dumps(expected), encoding="utf-8")
    command = [sys.executable, PROGRAM, original, tmp_path / "expected", way, tmp_path]
    died: list[str] = []
    while True:
        done = subprocess.run([*command, *died[-1:]], capture_output=True, text=True, check=False)
        if done.returncode >= 0:
            break
        died.append(done.stdout.split()[-1])
        assert len(died) == len(set(died)), f"died of file {died[-1]} twice:\n{done.stderr[-2000:]}"
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_an_index_that_an_upkeep_made_from_a_damaged_one_goes_with_it(
    grown: tuple[Path, Contents], tmp_path: Path, seed: int
) -> None:
    original, expected = grown
    pages = sorted((original / "tables" / "chunks.lance" / "_indices").glob("*/page_data.lance"))
    assert pages
    for number, page in enumerate(pages):
        place = tmp_path / str(number)
        shutil.copytree(original, place, copy_function=shutil.copy2)
        async with open_store(place) as store:
            flipped(place / page.relative_to(original), seed)
            try:
                await store.maintain(force=True)
            except StoreError:
                assert store.health.damage_suspected.is_set()
            await store.verify(force=True)
            await recover(store)
            assert await contents(store) == expected, (page, store.damage)


@pytest.mark.slow
async def test_a_file_that_lacks_a_chunk_or_has_one_twice_is_read_again(
    grown: tuple[Path, Contents], tmp_path: Path
) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    table = await (await lancedb.connect_async(str(tmp_path / "index" / "tables"))).open_table("chunks")
    await table.delete(f"path = '{FOLDER}/4.md' AND ordinal = 2")
    await table.delete(f"path = '{FOLDER}/5.md' AND ordinal = -1")
    await table.add(await table.query().where(f"path = '{FOLDER}/6.md' AND ordinal = 1").to_arrow())
    async with open_store(tmp_path / "index") as store:
        await store.repair()
        assert "3 files were not whole" in store.health.rebuilding
        assert {f"{FOLDER}/{n}.md" for n in (4, 5, 6)}.isdisjoint(row.path for row in await store.files())
        await fill(store)
        assert await contents(store) == grown[1]


@pytest.mark.slow
async def test_damaged_vectors_do_not_take_words_away(grown: tuple[Path, Contents], tmp_path: Path) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    async with open_store(tmp_path / "index") as store:
        for file in (tmp_path / "index" / "tables").glob("vectors_*/data/*"):
            file.write_bytes(b"")
        with pytest.raises(StoreError) as met:
            await store.search_vectors("m", DIM, vectors_of(["word3"])[0], Scope(), 5)
        assert met.value.code == "damaged"
        assert store.health.damage_suspected.is_set()
        assert len(await store.search_text(["again"], Scope(), 100)) == 80
        await store.repair()
        assert not store.health.damage_suspected.is_set()
        assert store.health.rebuilding == ""
        assert len(await store.search_text(["again"], Scope(), 100)) == 80
        assert store.pending_count("m", FOLDER) == 80
        await fill(store)
        assert await contents(store) == grown[1]


@pytest.mark.slow
async def test_searches_go_on_while_it_is_mended(grown: tuple[Path, Contents], tmp_path: Path) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    async with open_store(tmp_path / "index") as store:
        for file in (tmp_path / "index" / "tables").glob("vectors_*/data/*"):
            file.write_bytes(b"")
        asked = 0
        async with anyio.create_task_group() as tasks:
            mending = anyio.Event()

            async def repair() -> None:
                await store.repair()
                mending.set()

            tasks.start_soon(repair)
            while not mending.is_set():
                assert len(await store.search_text(["again"], Scope(), 100)) == 80
                asked += 1
        assert asked > 1


async def test_lost_text_is_said_until_it_has_been_read_again_even_over_a_restart(
    grown: tuple[Path, Contents], tmp_path: Path
) -> None:
    place = tmp_path / "index"
    shutil.copytree(grown[0], place)
    shutil.rmtree(place / "tables" / "chunks.lance")
    for _ in range(2):
        async with open_store(place) as store:
            assert "read from the folders again" in store.health.rebuilding
    async with open_store(place) as store:
        store.maintenance.exact = 50
        await store.maintain(force=True)
        await store.replace(files())
        assert store.pending_count("m", FOLDER) == 0  # the vectors outlived the maintenance in between
        store.health.rebuild_finished()
    async with open_store(place) as store:
        assert store.health.rebuilding == ""


@pytest.mark.slow
async def test_directory_deleted_while_it_is_open_is_filled_again(
    grown: tuple[Path, Contents], tmp_path: Path
) -> None:
    place = tmp_path / "index"
    shutil.copytree(grown[0], place)
    async with open_store(place) as store:
        shutil.rmtree(place)
        with pytest.raises(StoreError):
            await store.search_text(["again"], Scope(), 5)
        await recover(store)
        assert await contents(store) == grown[1]
        with pytest.raises(StoreError, match="being written by another"):
            async with open_store(place):
                pass


async def test_the_newest_copies_are_kept_of_what_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for time in ("20200101T000000", "20200102T000000", "20200103T000000"):
        (tmp_path / "damaged" / time).mkdir(parents=True)
    (tmp_path / "tables" / "x").write_bytes(b"bad")
    aside = quarantine(tmp_path, tmp_path / "tables" / "x")
    assert aside.read_bytes() == b"bad"
    assert quarantine_directories(tmp_path) == ["20200103T000000", aside.parent.name]
    assert len(quarantine_directories(tmp_path)) == COPIES
