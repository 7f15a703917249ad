"""Those who watch are woken by what changes, and miss nothing that falls between two looks."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from engines import ask, engine_over
from fakes import virtual_backend

from indexer.broadcast import Notifier
from indexer.history import HEARTBEAT, snapshots


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_change_while_the_watcher_is_busy_is_not_lost() -> None:
    shown, state = Notifier(), [0]
    seen = []
    with anyio.fail_after(5):
        async for value in snapshots(lambda: state[0], shown, 0.0):  # type: ignore[arg-type,return-value]
            seen.append(value)
            if value == 3:
                break
            state[0] += 1
            shown.notify()  # while nobody waits
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio"), virtual_backend("trio")], ids=lambda it: it[0])
async def test_nobody_is_woken_while_nothing_changes_but_by_the_heartbeat() -> None:
    looks, started = 0, anyio.current_time()
    with anyio.move_on_after(HEARTBEAT * 3 + 1):
        async for _ in snapshots(lambda: None, Notifier(), 0.2):  # type: ignore[arg-type,return-value]
            looks += 1
    assert looks == 4
    assert anyio.current_time() - started >= HEARTBEAT * 3


@pytest.mark.slow
async def test_an_engine_tells_of_its_slot_its_searches_and_its_work(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bees.md").write_text("# Bees\n\nA swarm follows its queen.\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        await ask(engine, "swarm")
        with anyio.fail_after(5):
            async for status in engine.watch(at_most_every=0):
                if status.slot.state == "ready" and status.slot.holder is None:
                    break
        history = await engine.history()
    states = [change.state for change in history.changes]
    assert states[-2:] == ["loading", "ready"]
    assert [(search.semantic, search.elapsed_ms > 0) for search in history.searches] == [("served", True)]
    assert sum(minute.read for minute in history.minutes) == 1
    assert sum(minute.embedded for minute in history.minutes) == status.work.chunks_embedded > 0


@pytest.mark.slow
async def test_a_slot_that_changes_wakes_those_who_watch_the_engine(tmp_path: Path) -> None:
    """Nothing else beats when a warm window ends: the slot's own change has to be heard."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bees.md").write_text("# Bees\n\nA swarm follows its queen.\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        await ask(engine, "swarm")
        assert engine._components and engine._components.slot
        slot, states = engine._components.slot, []
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(HEARTBEAT / 2):
                async for status in engine.watch(at_most_every=0):
                    if not states:
                        tasks.start_soon(slot.unload)
                    states.append(status.slot.state)
                    if status.slot.state == "idle":
                        break
    assert states[0] == "ready"
