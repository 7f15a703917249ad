"""A watched folder under bursts of changes has the index that its final tree has."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest
from fakes import FakeLoader
from live_folder import burst, contents, fresh_contents, plant, until_equal, watched

from indexer.engine import open_engine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
async def test_bursts_of_changes_leave_the_index_of_the_final_tree(tmp_path: Path) -> None:
    chance, root = random.Random(3), tmp_path / "folder"
    root.mkdir()
    plant(root, 200, chance)
    with anyio.fail_after(150):
        async with open_engine(watched(tmp_path / "data"), version="test", loader=FakeLoader()) as engine:
            await engine.add_folder(str(root))
            await engine.index()
            for number in range(3):
                await anyio.to_thread.run_sync(burst, root, 100, chance, number * 1000)
            await until_equal(engine, root)
            found = await contents(engine, root)
        assert found == await fresh_contents(tmp_path / "fresh", root)
    assert found
