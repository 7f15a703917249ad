"""Damage and refusals met by a running engine: searches go on, status says what is wrong, it recovers by itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import small_disk
from engines import ask, engine_over, names, settings

from indexer.engine import Engine
from indexer.folders.registry import add_folder, list_folders, repair_folders_file

ROOT = Path(__file__).parents[3]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.md").write_text(f"Whale number{number} in the sea.\n", encoding="utf-8")
    return folder


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once, not after the seconds a user would hardly notice."""
    monkeypatch.setattr("indexer.waits.INDEX_RETRY_S", 0.05)


async def until(engine: Engine, state: str) -> None:
    async for status in engine.watch(at_most_every=0.02):
        if status.index.state == state and all(f.coverage == 1.0 and f.last_scan for f in status.folders):
            return


def files_of(data: Path, pattern: str) -> list[Path]:
    return [path for path in (data / "index" / "tables").glob(pattern) if path.is_file()]


@pytest.mark.slow
async def test_vectors_damaged_under_a_running_engine_are_rebuilt_and_words_are_found_meanwhile(
    tmp_path: Path, notes: Path
) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        for file in files_of(tmp_path / "data", "vectors_*/data/*"):
            file.write_bytes(b"")
        met = await ask(engine, "whale")
        assert len(met.hits) == 6
        assert met.semantic.status == "unavailable"
        assert met.semantic.code == "index_damaged"
        await until(engine, "ready")
        assert (await ask(engine, "whale")).semantic.status == "served"
        status = engine.status()
        assert any("table vectors_" in notice and "damaged" in notice for notice in status.index.notices)
        assert any("damaged parts are kept in" in notice for notice in status.index.notices)


@pytest.mark.slow
async def test_text_damaged_under_a_running_engine_is_read_again_and_the_search_that_met_it_is_answered(
    tmp_path: Path, notes: Path
) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        embedded = engine.status().work.chunks_embedded
        for file in files_of(tmp_path / "data", "chunks.lance/data/*"):
            file.unlink()
        met = await ask(engine, "number3", "keyword")
        assert met.hits or "being rebuilt" in met.notices[0]
        await until(engine, "ready")
        assert names((await ask(engine, "number3", "keyword")).hits)[0] == "3.md"
        assert engine.status().work.chunks_embedded == embedded  # the vectors served the text that came back


@pytest.mark.slow
async def test_word_index_damaged_under_a_running_engine_is_made_anew(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        read = engine.status().work.files_read
        for file in files_of(tmp_path / "data", "chunks.lance/_indices/*/*"):
            file.unlink()
        (notes / "new.md").write_text("Whale and dolphin.", encoding="utf-8")
        await engine.index()
        await until(engine, "ready")
        assert len((await ask(engine, "whale", "keyword")).hits) == 7
        assert engine.status().work.files_read == read + 1


@pytest.mark.slow
async def test_data_directory_deleted_under_a_running_engine_is_filled_again(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        shutil.rmtree(tmp_path / "data")
        met = await ask(engine, "number3", "keyword")
        assert met.hits or "being rebuilt" in met.notices[0]
        await until(engine, "ready")
        assert names((await ask(engine, "number3", "keyword")).hits)[0] == "3.md"
    async with engine_over(tmp_path / "data") as engine:  # it knows its folders
        await until(engine, "ready")
        assert names((await ask(engine, "number3", "keyword")).hits)[0] == "3.md"


def test_damaged_list_of_folders_is_replaced_by_its_copy_and_set_aside(tmp_path: Path, notes: Path) -> None:
    config = settings(tmp_path / "data")
    add_folder(config, str(notes))
    file = tmp_path / "data" / "folders.json"
    file.write_bytes(b"\0garbage")
    assert list_folders(config).paths == (str(notes),)
    said = repair_folders_file(config.data_dir)
    assert "its copy is in use" in said
    assert (tmp_path / "data" / "folders.damaged.json").read_bytes() == b"\0garbage"
    assert repair_folders_file(config.data_dir) == ""
    assert list_folders(config).paths == (str(notes),)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    with small_disk(tmp_path / "disk", "size=8m") as place:
        yield place


@pytest.mark.slow
@pytest.mark.usefixtures("patience")
async def test_full_disk_is_said_searches_go_on_and_it_recovers_by_itself(
    tmp_path: Path, notes: Path, disk: Path
) -> None:
    async with engine_over(disk / "data", notes) as engine:
        await engine.index()
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):
            while True:
                stream.write(os.urandom(4096))
        (notes / "new.md").write_text("Whale and dolphin. " * 3000, encoding="utf-8")
        engine._components.queue.add(str(notes))
        async for status in engine.watch(at_most_every=0.02):
            if status.index.state == "disk_full":
                break
        assert "free some space" in status.index.remedy
        assert "disk is full" in status.index.last_error
        assert len((await ask(engine, "whale")).hits) >= 6
        ballast.unlink()
        await until(engine, "ready")
        assert names((await ask(engine, "dolphin", "keyword")).hits)[0] == "new.md"


@pytest.mark.slow
@pytest.mark.usefixtures("patience")
async def test_disk_that_is_read_only_at_the_start_serves_and_is_written_when_it_can_be(
    tmp_path: Path, notes: Path, disk: Path
) -> None:
    async with engine_over(disk / "data", notes) as engine:
        await engine.index()
    (notes / "new.md").write_text("Whale and dolphin.", encoding="utf-8")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    async with engine_over(disk / "data") as engine:
        async for status in engine.watch(at_most_every=0.02):
            if status.index.state == "read_only":
                break
        assert "mount the disk" in status.index.remedy
        assert status.owner.state == "read_only"
        found = await ask(engine, "whale", "keyword")
        assert len(found.hits) == 6
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        await until(engine, "ready")
        assert engine.status().owner.state == "serving"
        assert names((await ask(engine, "dolphin", "keyword")).hits) == ["new.md"]


HOLD = "import sys; from indexer.store.writer_lock import WriterLock; from pathlib import Path\n"
HOLD += "with WriterLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.mark.slow
@pytest.mark.usefixtures("patience")
async def test_reader_beside_a_writer_becomes_the_writer_when_that_was_killed(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "data" / "index" / "writer.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        async with engine_over(tmp_path / "data") as engine:
            async for status in engine.watch(at_most_every=0.02):
                if status.index.state == "busy":
                    break
            assert str(holder.pid) in status.index.last_error
            assert len((await ask(engine, "whale", "keyword")).hits) == 6
            holder.kill()
            await until(engine, "ready")
            assert engine.status().owner.state == "serving"
