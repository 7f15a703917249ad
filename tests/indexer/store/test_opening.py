"""What an index may look like when it is opened, and what becomes of it."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import lancedb
import pyarrow as pa
import pytest
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreBusy, StoreError
from indexer.store.connection import _link
from indexer.store.schema import CHUNKS, chunks_schema, file_rows, hash_of, text_index, vectors_name
from indexer.store.store import open_store
from indexer.types import Scope

HOLD = "import sys; from indexer.store.writer_lock import WriterLock; from pathlib import Path\n"
HOLD += "with WriterLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


async def made(directory: Path) -> None:
    """An index of two commits, with vectors."""
    async with open_store(directory) as store:
        await store.replace([written("a.md", "first words")])
        await store.replace([written("b.md", "second words")])
        chunks = await store.pending("m", DIM, FOLDER)
        await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
        await store.maintain(force=True)


async def names(directory: Path) -> tuple[list[str], tuple[str, ...]]:
    async with open_store(directory) as store:
        assert len(await store.search_text(["words"], Scope(), 9)) == len(await store.files())
        return sorted(Path(f.path).name for f in await store.files()), store.damage


def manifests(directory: Path, table: str = CHUNKS) -> list[Path]:
    """Newest first."""
    return sorted((directory / "tables" / f"{table}.lance" / "_versions").glob("*.manifest"))


async def test_second_writer_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        with pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
            async with open_store(tmp_path):
                pass
    async with open_store(tmp_path):
        pass


@pytest.mark.parametrize("kill", [False, True])
async def test_lock_of_another_process_ends_with_it(tmp_path: Path, kill: bool) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "writer.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f"process {holder.pid}"):
            async with open_store(tmp_path):
                pass
        holder.kill() if kill else holder.stdin.close()
        holder.wait(10)
    async with open_store(tmp_path) as store:
        assert store.maintenance_due() is kill  # what a killed writer left lying is cleaned away


async def test_reader_sees_the_writers_commits_and_may_not_write(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index") as refusal:
        async with open_store(tmp_path / "nothing", read_only=True):
            pass
    assert refusal.value.code == "missing"
    assert not (tmp_path / "nothing").exists()
    async with open_store(tmp_path) as writer, open_store(tmp_path, read_only=True) as reader:
        await writer.replace([written("a.md", "one")])
        chunks = await writer.pending("m", DIM, FOLDER)
        await writer.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])
        assert len(await reader.files()) == len(await reader.search_text(["one"], Scope(), 5)) == 1
        assert await reader.counts() == await writer.counts()
        assert len(await reader.search_vectors("m", DIM, vectors_of(["one"])[0], Scope(), 5)) == 1
        for write in (
            reader.replace([written("a.md", "two")]),
            reader.remove(["x"]),
            reader.remove_folder(FOLDER),
            reader.touch([]),
            reader.maintain(),
            reader.pending("m", DIM, FOLDER),
            reader.add_vectors("m", DIM, []),
            reader.reuse_vectors("m", DIM, []),
            reader.drop_vectors("m", FOLDER),
        ):
            with pytest.raises(StoreError) as refused:
                await write
            assert refused.value.code == "read_only"
        assert not reader.maintenance_due()


async def test_index_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    import lancedb

    connection = await lancedb.connect_async(str(tmp_path / "tables"))
    await connection.create_table(CHUNKS, schema=chunks_schema().with_metadata({"format": "2"}))
    with pytest.raises(StoreError, match="upgrade folder-mcp") as refusal:
        async with open_store(tmp_path):
            pass
    assert refusal.value.code == "newer_version"
    assert not (tmp_path / "damaged").exists()


@pytest.mark.slow
async def test_torn_newest_manifest_is_set_aside_and_the_version_before_it_serves(tmp_path: Path) -> None:
    await made(tmp_path)
    async with open_store(tmp_path) as store:
        await store.replace([written("c.md", "third words")])
    torn = manifests(tmp_path)[0]
    torn.write_bytes(torn.read_bytes()[:40])
    found, damage = await names(tmp_path)
    assert found == ["a.md", "b.md"]
    assert len(damage) == 1
    assert "torn" in damage[0]
    assert len(list((tmp_path / "damaged").rglob("*.manifest*"))) == 1
    assert await names(tmp_path) == (["a.md", "b.md"], ())


async def test_table_without_a_readable_version_is_set_aside_and_its_vectors_serve_the_rebuilt_text(
    tmp_path: Path,
) -> None:
    await made(tmp_path)
    for manifest in manifests(tmp_path):
        manifest.write_bytes(b"")
    async with open_store(tmp_path) as store:
        assert await store.files() == []
        assert any("moved to" in sentence for sentence in store.damage)
        made_again = await store.replace([written("a.md", "first words"), written("b.md", "second words")])
        assert store.pending_count("m", FOLDER) == 0
        assert len(made_again.added) == 2
    assert list((tmp_path / "damaged").glob("*/chunks.lance*"))


async def test_lost_search_index_is_made_anew_without_losing_a_row(tmp_path: Path) -> None:
    await made(tmp_path)
    for file in (tmp_path / "tables" / "chunks.lance" / "_indices").rglob("*"):
        if file.is_file():
            file.unlink()
    found, damage = await names(tmp_path)
    assert found == ["a.md", "b.md"]
    assert "made anew" in damage[-1]
    assert await names(tmp_path) == (["a.md", "b.md"], ())


async def test_lost_data_file_sets_the_table_aside(tmp_path: Path) -> None:
    await made(tmp_path)
    for file in (tmp_path / "tables" / "chunks.lance" / "data").iterdir():
        file.unlink()
    assert (await names(tmp_path))[0] == []
    assert list((tmp_path / "damaged").glob("*/chunks.lance*"))


async def test_damaged_vectors_are_set_aside_and_pending_again(tmp_path: Path) -> None:
    await made(tmp_path)
    for file in (tmp_path / "tables" / f"{vectors_name('m')}.lance" / "data").iterdir():
        file.write_bytes(b"x" * 100)
    async with open_store(tmp_path) as store:
        assert len(await store.files()) == 2
        assert len(await store.pending("m", DIM, FOLDER)) == 2
        assert store.damage


async def test_reader_does_not_mend(tmp_path: Path) -> None:
    await made(tmp_path)
    for manifest in manifests(tmp_path):
        manifest.write_bytes(b"")
    with pytest.raises(StoreError, match="sets it aside") as refusal:
        async with open_store(tmp_path, read_only=True):
            pass
    assert refusal.value.code == "damaged"
    assert not (tmp_path / "damaged").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write anywhere")
async def test_directory_without_the_right_to_write_is_a_clear_refusal(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="may not write") as refusal:
        async with open_store(tmp_path / "data"):
            pass
    assert refusal.value.code == "permission"


async def test_data_directory_that_is_a_file_is_a_clear_refusal(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="could not create the data directory"):
        async with open_store(place):
            pass


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_place_without_hard_links_is_refused_with_a_remedy(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    other = Path("/dev/shm") / f"link-{os.getpid()}"
    if os.stat("/dev/shm").st_dev == probe.stat().st_dev:
        pytest.skip("needs a second file system")
    with pytest.raises(StoreError, match="local disk") as refusal:
        _link(probe, other)
    assert refusal.value.code == "unsupported"


@pytest.mark.slow
async def test_importing_the_engine_imports_no_storage_library() -> None:
    code = "import sys, indexer.engine; print({'lancedb', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = await anyio.run_process([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    assert done.stdout.decode().strip() == "set()"


async def test_an_index_without_the_language_column_gets_it_and_is_read_without_by_a_reader(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.replace([written("a.md", "one", "two", language="de")])
    database = await lancedb.connect_async(str(tmp_path / "tables"))
    table = await database.open_table("chunks")
    await table.drop_columns(["language"])
    async with open_store(tmp_path, read_only=True) as reader:
        assert [row.language for row in await reader.files()] == [None]
        assert len(await reader.search_text(["one"], Scope(), 5)) == 1
    async with open_store(tmp_path) as store:
        assert store.damage == ()
        assert [row.language for row in await store.files()] == [None]
        await store.replace([written("a.md", "one", "two", language="de"), written("b.md", "three", language="")])
        assert sorted((Path(row.path).name, row.language) for row in await store.files()) == [
            ("a.md", "de"),
            ("b.md", ""),
        ]
        assert len(await store.search_text(["one"], Scope(), 5)) == 1


async def test_an_index_of_an_earlier_format_serves_and_is_read_again_in_the_background(tmp_path: Path) -> None:
    """As an earlier program wrote it: another stamp, and columns that it did not know."""
    database = await lancedb.connect_async(str(tmp_path / "tables"))
    later = {"language", "attempts", "indexed_at", "recipe"}
    old = pa.schema([field for field in chunks_schema() if field.name not in later], metadata={"format": "0"})
    rows = file_rows([written("a.md", "one two").row]).select(old.names)
    text = {"chunk_id": "c" * 32, "path": f"{FOLDER}/a.md", "folder": FOLDER, "name": "a.md", "ordinal": 0}
    text |= {"text": "one two", "heading": "", "locator": "L1-1", "text_hash": hash_of("one two"), "tokens": "one two"}
    table = await database.create_table(CHUNKS, pa.concat_tables([rows.cast(old), pa.Table.from_pylist([text], old)]))
    await table.create_index("tokens", config=text_index())
    for _ in range(2):
        async with open_store(tmp_path) as store:
            assert store.damage == ()
            assert "brought up to date" in store.health.rebuilding
            assert [hit.chunk.text for hit in await store.search_text(["two"], Scope(), 5)] == ["one two"]
            assert [row.recipe for row in await store.files()] == [""]  # so that it is read again
    async with open_store(tmp_path) as store:
        await store.replace([written("a.md", "one two", language="de")])
        store.health.rebuild_finished()
    async with open_store(tmp_path) as store:
        assert store.health.rebuilding == ""
        assert [(row.recipe, row.language) for row in await store.files()] == [("r1", "de")]
        assert len(await store.search_text(["two"], Scope(), 5)) == 1


async def test_an_index_too_old_to_be_read_is_set_aside_and_rebuilt(tmp_path: Path) -> None:
    database = await lancedb.connect_async(str(tmp_path / "tables"))
    await database.create_table(CHUNKS, pa.table({"id": ["x"], "body": ["from long ago"]}))
    async with open_store(tmp_path) as store:
        assert any("could not be read and was moved" in sentence for sentence in store.damage)
        assert "read from the folders again" in store.health.rebuilding
        await store.replace([written("a.md", "one")])
        assert len(await store.search_text(["one"], Scope(), 5)) == 1
