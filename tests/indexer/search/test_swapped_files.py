"""Files and directories swapped after they were indexed: what search, read and the next scan make of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from engines import ask, engine_over, names
from opening import BOTH_WAYS, device, with_way

from indexer.documents.parse import Parsed
from indexer.documents.pool import Parsers
from indexer.engine import Engine
from indexer.errors import ParseFailed, QueryError
from indexer.types import File

pytestmark = pytest.mark.slow

INSIDE, OUTSIDE = "# Note\n\nA lantern is inside here.\n", "# Note\n\nThe quetzal is outside...\n"
TIME = 1_700_000_000_123_456_789
assert len(INSIDE) == len(OUTSIDE)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BOTH_WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return with_way(request.param, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for top, text in (("folder", INSIDE), ("outside", OUTSIDE)):
        for place in (tmp_path / top / "sub/a.md", tmp_path / top / "a.md"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            os.utime(place, ns=(0, TIME))
    (tmp_path / "folder/a.md").unlink()
    return tmp_path / "folder"


PUT: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "directory to link": ("sub", lambda place, outside: place.symlink_to(outside / "sub")),
    "file to link": ("sub/a.md", lambda place, outside: place.symlink_to(outside / "a.md")),
    "file to FIFO": ("sub/a.md", lambda place, _: os.mkfifo(place)),
    "file to device": ("sub/a.md", device),
    "root to link": (".", lambda place, outside: place.symlink_to(outside)),
}


async def read(engine: Engine, place: Path) -> str:
    try:
        return (await engine.read(str(place), None, max_chars=1000)).text
    except QueryError as error:
        return f"refused: {error}"


async def test_what_takes_a_name_that_is_indexed_is_neither_read_nor_shown_and_the_file_comes_back(
    tmp_path: Path, folder: Path, way: str
) -> None:
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        assert names((await ask(engine, "lantern", "keyword")).hits) == ["a.md"]
        for put, (name, replace) in PUT.items():
            place = folder / name
            place.rename(tmp_path / "kept")
            replace(place, tmp_path / "outside")
            said = await read(engine, folder / "sub/a.md")
            assert said.startswith("refused") and "quetzal" not in said, put
            assert (await ask(engine, "lantern", "keyword")).hits == (), put
            await engine.index()
            assert (await ask(engine, "quetzal", "keyword")).hits == (), put
            place.unlink()
            (tmp_path / "kept").rename(place)
            await engine.index()
            (hit,) = (await ask(engine, "lantern", "keyword")).hits
            assert not hit.stale and "lantern" in await read(engine, folder / "sub/a.md"), put


async def test_a_hard_link_of_the_same_size_and_time_is_marked_shown_as_it_is_and_indexed_anew(
    tmp_path: Path, folder: Path, way: str
) -> None:
    place, target = folder / "sub/a.md", tmp_path / "outside/a.md"
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        place.rename(tmp_path / "kept")
        os.link(target, place)
        assert (place.stat().st_size, place.stat().st_mtime_ns) == (
            len(INSIDE),
            (tmp_path / "kept").stat().st_mtime_ns,
        )
        (hit,) = (await ask(engine, "lantern", "keyword")).hits
        assert hit.stale and "lantern" not in hit.snippet  # never the text of the old row
        reading = await engine.read(str(place), None, max_chars=1000)
        assert reading.stale and "lantern" not in reading.text
        await engine.index()
        assert (await ask(engine, "lantern", "keyword")).hits == ()
        assert names((await ask(engine, "quetzal", "keyword")).hits) == ["a.md"]
        place.unlink()  # and back, again with the same size and time
        (tmp_path / "kept").rename(place)
        (hit,) = (await ask(engine, "quetzal", "keyword")).hits
        assert hit.stale and "quetzal" not in hit.snippet
        await engine.index()
        assert (await ask(engine, "quetzal", "keyword")).hits == ()
        assert names((await ask(engine, "lantern", "keyword")).hits) == ["a.md"]


async def test_a_second_name_for_an_indexed_file_does_not_have_it_read_again(tmp_path: Path, folder: Path) -> None:
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        os.link(folder / "sub/a.md", tmp_path / "backup.md")
        report = await engine.index()
        assert report.work.files_read == 0


@pytest.mark.parametrize("put", ["directory to link", "file to link", "file to FIFO", "file to device"])
async def test_a_file_that_was_something_else_while_it_was_to_be_read_is_looked_at_again(
    tmp_path: Path, folder: Path, way: str, put: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, replace = PUT[put]
    place, refusals = folder / name, []
    real = Parsers.parse

    async def parse_while_swapped(self: Parsers, file: File) -> Parsed:
        if refusals:
            return await real(self, file)
        place.rename(tmp_path / "kept")
        replace(place, tmp_path / "outside")
        try:
            return await real(self, file)
        except ParseFailed as error:
            refusals.append(str(error))
            raise
        finally:
            place.unlink()
            (tmp_path / "kept").rename(place)

    monkeypatch.setattr(Parsers, "parse", parse_while_swapped)
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()  # the scan saw the file; its size and time are the same afterwards
        assert refusals
        assert names((await ask(engine, "lantern", "keyword")).hits) == ["a.md"]
        assert (await ask(engine, "quetzal", "keyword")).hits == ()
