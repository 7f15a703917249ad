"""Every file of a real index damaged in every way, before it is opened and while it is open."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import lancedb
import pytest
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreError
from indexer.store import Store, open_store
from indexer.store.aside import COPIES, kept, set_aside
from indexer.types import FileWrite, Scope

Contents = tuple[list[tuple[str, int]], list[str], list[list[str]], list[str]]
WORDS = ["word3", "para1", "again", "word7"]


def files() -> list[FileWrite]:
    """The folder, as it is parsed."""
    return [written(f"{n}.md", *(f"word{n} para{k} again " + "filler " * 30 for k in range(4))) for n in range(20)]


async def fill(store: Store) -> None:
    """Make the index say what the folder says, as the passes do: text that is not there, then vectors."""
    there = {row.path for row in await store.files()}
    gone = sorted(there - {write.row.path for write in files()})
    await store.remove(gone)
    await store.replace([write for write in files() if write.row.path not in there])
    while chunks := await store.pending("m", DIM, FOLDER, 30):
        await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])


async def contents(store: Store) -> Contents:
    """Files, chunks, what searches find, and what has a vector."""
    rows = sorted((row.path, row.chunks) for row in await store.files())
    texts = [f"{c.chunk_id} {c.locator} {c.text}" for path, _ in rows for c in await store.chunks_of(path)]
    found = [sorted(hit.chunk.chunk_id for hit in await store.search_text([word], Scope(), 100)) for word in WORDS]
    near = [
        hit.chunk.chunk_id
        for text in ("word3 para1", "word9 para2")
        for hit in await store.search_vectors("m", DIM, vectors_of([text])[0], Scope(), 1)
    ]
    assert store.pending_count("m", FOLDER) == 0
    assert await store.pending("m", DIM, FOLDER) == []
    return rows, texts, found, near


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """An index with everything in it that an index can have: tombstones' deletions, a tail, a vector index."""
    place = tmp_path_factory.mktemp("grown")

    async def make() -> Contents:
        async with open_store(place) as store:
            store.upkeep.exact = 50
            await store.replace([*files(), written("gone.md", "gone for good")])
            chunks = await store.pending("m", DIM, FOLDER)
            await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
            await store.maintain(force=True)
            await store.remove([f"{FOLDER}/gone.md"])
            await store.maintain(force=True)
            await store.replace([files()[3]])
            return await contents(store)

    return place, anyio.run(make)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path, seed: int = 0) -> None:
    """Eight bytes changed here and there."""
    data, dice = bytearray(file.read_bytes()), random.Random(f"{file.name} {seed}")
    for _ in range(8 if data else 0):
        data[dice.randrange(len(data))] ^= 0xFF
    file.write_bytes(data)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def deleted(file: Path) -> None:
    file.unlink()


WAYS = [truncated, emptied, flipped, zeroed, deleted]


async def recover(store: Store) -> None:
    """What the engine does: damage that is met, or found by verifying, is mended; the folder is read again."""
    for _ in range(4):
        try:
            await fill(store)
            await store.maintain(force=True)
            await contents(store)
        except StoreError as error:
            assert error.code in ("damaged", "internal"), error
            assert store.health.doubted.is_set(), error
        if not store.health.doubted.is_set():
            return
        await store.mend()
    pytest.fail(f"not mended: {store.damage}")


def one_of_each(place: Path) -> list[Path]:
    """A file of every kind, the newest: data, deletions, manifests, transactions, hints, the parts of each index."""
    found = {}
    files = sorted((p for p in (place / "tables").rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    for file in files:
        table, room, *_ = file.relative_to(place / "tables").parts
        name = file.name if room == "_indices" or file.suffix == ".json" else file.suffix
        found[table[0], room, name] = file.relative_to(place)
    return [file for _, file in sorted(found.items())]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("damage", WAYS)
async def test_whatever_file_is_damaged_the_index_ends_as_a_fresh_one(
    grown: tuple[Path, Contents], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Each file either before the index is opened or in the middle of work, in turn."""
    original, expected = grown
    names = one_of_each(original)
    assert {"_versions", "_indices", "data", "_deletions", "_transactions"} <= {p.parts[2] for p in names}
    for number, name in enumerate(names):
        place, running = tmp_path / str(number), bool((number + WAYS.index(damage)) % 2)
        shutil.copytree(original, place, copy_function=shutil.copy2)
        if not running:
            damage(place / name)
        async with open_store(place) as store:
            store.upkeep.exact = 50
            if running:
                assert len(await store.search_text(["again"], Scope(), 5)) == 5
                damage(place / name)
            await store.verify(force=True)
            await recover(store)
            assert await contents(store) == expected, (name, store.damage)
        shutil.rmtree(place)


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
                assert store.health.doubted.is_set()
            await store.verify(force=True)
            await recover(store)
            assert await contents(store) == expected, (page, store.damage)


async def test_a_file_that_lacks_a_chunk_or_has_one_twice_is_read_again(
    grown: tuple[Path, Contents], tmp_path: Path
) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    table = await (await lancedb.connect_async(str(tmp_path / "index" / "tables"))).open_table("chunks")
    await table.delete(f"path = '{FOLDER}/4.md' AND ordinal = 2")
    await table.delete(f"path = '{FOLDER}/5.md' AND ordinal = -1")
    await table.add(await table.query().where(f"path = '{FOLDER}/6.md' AND ordinal = 1").to_arrow())
    async with open_store(tmp_path / "index") as store:
        await store.mend()
        assert "3 files were not whole" in store.health.rebuilding
        assert {f"{FOLDER}/{n}.md" for n in (4, 5, 6)}.isdisjoint(row.path for row in await store.files())
        await fill(store)
        assert await contents(store) == grown[1]


async def test_damaged_vectors_do_not_take_words_away(grown: tuple[Path, Contents], tmp_path: Path) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    async with open_store(tmp_path / "index") as store:
        for file in (tmp_path / "index" / "tables").glob("vectors_*/data/*"):
            file.write_bytes(b"")
        with pytest.raises(StoreError) as met:
            await store.search_vectors("m", DIM, vectors_of(["word3"])[0], Scope(), 5)
        assert met.value.code == "damaged"
        assert store.health.doubted.is_set()
        assert len(await store.search_text(["again"], Scope(), 100)) == 80
        await store.mend()
        assert not store.health.doubted.is_set()
        assert store.health.rebuilding == ""
        assert len(await store.search_text(["again"], Scope(), 100)) == 80
        assert store.pending_count("m", FOLDER) == 80
        await fill(store)
        assert await contents(store) == grown[1]


async def test_searches_go_on_while_it_is_mended(grown: tuple[Path, Contents], tmp_path: Path) -> None:
    shutil.copytree(grown[0], tmp_path / "index")
    async with open_store(tmp_path / "index") as store:
        for file in (tmp_path / "index" / "tables").glob("vectors_*/data/*"):
            file.write_bytes(b"")
        asked = 0
        async with anyio.create_task_group() as tasks:
            mending = anyio.Event()

            async def mend() -> None:
                await store.mend()
                mending.set()

            tasks.start_soon(mend)
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
        store.upkeep.exact = 50
        await store.maintain(force=True)
        await store.replace(files())
        assert store.pending_count("m", FOLDER) == 0  # the vectors outlived the maintenance in between
        store.health.rebuilt()
    async with open_store(place) as store:
        assert store.health.rebuilding == ""


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
    aside = set_aside(tmp_path, tmp_path / "tables" / "x")
    assert aside.read_bytes() == b"bad"
    assert kept(tmp_path) == ["20200103T000000", aside.parent.name]
    assert len(kept(tmp_path)) == COPIES
