"""The owner's life, in this process with a small real engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from fakes_engine import FakeEngine

from indexer.config import Config
from indexer.settings import OwnerSettings
from mcp_server.claim import Claim, Place, place_of
from mcp_server.hello import NotThere, dial, greeting
from mcp_server.location import Location
from mcp_server.owner import Owner
from mcp_server.reception import listen


@pytest.fixture
def place() -> Iterator[Place]:
    base = tempfile.mkdtemp(prefix="fm-", dir="/tmp")
    yield place_of("/data", base)
    shutil.rmtree(base)


@asynccontextmanager
async def opener(config: Config, *, start: anyio.Event, on_wedged: Callable[[str], None]) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    engine.started = True
    yield engine


def owner(place: Place, claim: Claim, tmp_path: Path, settings: OwnerSettings) -> Owner:
    assert claim.take()
    config = Config(data_dir=tmp_path, owner=settings)
    return Owner(Location("", str(tmp_path), ""), config, place, claim, opener)


async def test_looking_whether_it_is_there_does_not_keep_an_owner_alive(place: Place, tmp_path: Path) -> None:
    """It looks at itself once a minute: that must not count as use."""
    ended: list[int] = []
    with Claim(place) as claim:
        one = owner(place, claim, tmp_path, OwnerSettings(idle_exit=0.5))

        async def live() -> None:
            ended.append(await one.run(listen(place, "i" * 8), lambda: None))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(live)
                looked = 0
                while not ended:
                    try:
                        line, _ = await anyio.to_thread.run_sync(dial, place, greeting("check"), 5.0)
                    except NotThere:
                        await anyio.lowlevel.checkpoint()
                    else:
                        looked += 1
                        line.close()
    assert ended == [0]
    assert looked > 1


async def test_a_wedged_slot_ends_the_owner_with_its_own_code(place: Place, tmp_path: Path) -> None:
    wedge: list[Callable[[str], None]] = []

    @asynccontextmanager
    async def catching(config: Config, *, start: anyio.Event, on_wedged: Any) -> AsyncIterator[FakeEngine]:
        wedge.append(on_wedged)
        yield FakeEngine()

    with Claim(place) as claim:
        assert claim.take()
        config = Config(data_dir=tmp_path)
        one = Owner(Location("", str(tmp_path), ""), config, place, claim, catching)
        ready = anyio.Event()

        async def wedge_when_open() -> None:
            await ready.wait()
            line, _ = await anyio.to_thread.run_sync(dial, place, greeting("control"), 5.0)
            line.send({"id": 1, "do": "status"})
            assert "result" in await anyio.to_thread.run_sync(line.receive)
            line.close()
            wedge[0]("stuck")

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wedge_when_open)
                assert await one.run(listen(place, "i" * 8), ready.set) == 75
