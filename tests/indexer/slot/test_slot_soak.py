"""Hours in virtual time: the warm window is exact, and no indexing starves."""

import itertools

import anyio
import pytest
from effort import scaled
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot

from indexer.slot.priority_lock import Priority
from indexer.slot.slot_types import SlotSettings

A, B = model_spec("a"), model_spec("b")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


BATCH = 4.0
"""Seconds of a micro-batch."""


async def index_share(period, settings, hours, drift=0.0, ask_first=False):
    """Share of the time in which indexing for B ran, with a search on A every ``period`` seconds."""
    loader = FakeLoader(stages=[("weights", 1.0)])
    indexed = 0.0
    async with virtual_slot(loader, settings) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(BATCH if kind == "passages" else 0.05)

        async def search():
            for number in itertools.count(1):
                async with slot.use(A, wait=60) as lease:
                    await lease.embed_query("x")
                await anyio.sleep_until(start + number * (period + drift))

        async def index():
            nonlocal indexed
            while True:
                async with slot.use(B, Priority.INDEX) as lease:
                    while not (ask_first and lease.should_yield()):
                        await lease.embed_passages(["x"])
                        indexed += BATCH
                        if lease.should_yield():
                            break

        start = anyio.current_time()
        with anyio.move_on_after(hours * 3600):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(search)
                await anyio.sleep(2)
                tasks.start_soon(index)
    assert loader.most_alive == 1
    return indexed / (hours * 3600)


@pytest.mark.slow
@pytest.mark.parametrize(("period", "least"), [(60, 0.08), (240, 0.15), (290, 0.25)])
async def test_indexing_of_another_model_gets_its_share_under_a_steady_search(period, least):
    assert await index_share(period, SlotSettings(), hours=scaled(10)) >= least


@pytest.mark.slow
@pytest.mark.parametrize("ask_first", [False, True])
async def test_in_the_worst_phase_indexing_still_gets_a_micro_batch_every_cap(ask_first):
    # Each time the cap is reached just before a search: indexing gets its one micro-batch and no more.
    share = await index_share(60, SlotSettings(), hours=2, drift=0.8, ask_first=ask_first)
    assert BATCH / 680 <= share < 0.02


async def test_an_indexer_that_asks_before_its_first_batch_is_not_sent_away_without_it():
    loader, log = FakeLoader(stages=[("weights", 10.0)]), []
    async with virtual_slot(loader, SlotSettings(keep_warm=2000)) as (slot, _):

        async def index():
            async with slot.use(B, Priority.INDEX) as lease:
                while not lease.should_yield():
                    await lease.embed_passages(["x"])
                    log.append("batch")

        await use_once(slot, A, Priority.TOOL)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(index)
            await anyio.sleep(605)  # the cap was reached at 600, the load runs
            await use_once(slot, A, Priority.TOOL)
            log.append("search")
    assert log == ["batch", "search"]


async def test_without_the_cap_a_steady_search_starves_indexing():
    assert await index_share(240, SlotSettings(starvation_cap=0), hours=2) == 0.0


async def test_indexing_in_the_warm_window_neither_extends_nor_shortens_it():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(A):
            pass
        start = anyio.current_time()
        await anyio.sleep(100)
        async with slot.use(A, Priority.INDEX) as lease:
            await lease.embed_passages(["x"])
        await anyio.sleep(150)
        async with slot.use(A, Priority.INDEX) as lease:
            await lease.embed_passages(["x"])
        await slot.wait_for("idle", timeout=1000)
        assert anyio.current_time() - start == pytest.approx(300.0, abs=1e-3)
        assert slot.status().warm_until is None


async def test_a_short_call_does_not_shorten_the_window_and_a_long_one_counts_from_its_end():
    loader = FakeLoader()
    async with virtual_slot(loader, SlotSettings(keep_warm=100)) as (slot, _):
        async with slot.use(A):
            await anyio.sleep(20)
        start = anyio.current_time()
        assert slot.status().warm_until == pytest.approx(1_000_120, abs=1e-3)
        await slot.wait_for("idle", timeout=1000)
        assert anyio.current_time() - start == pytest.approx(100, abs=1e-3)


async def test_folders_are_indexed_one_model_after_the_other_and_the_model_is_unloaded_in_the_end():
    loader = FakeLoader(stages=[("weights", 5.0)])
    log = []
    async with virtual_slot(loader) as (slot, _):

        async def index(rank, spec):
            for _ in range(3):
                async with slot.use(spec, Priority.INDEX, folder_rank=rank) as lease:
                    await lease.embed_passages(["x"])
                    log.append((rank, spec.name))

        async with anyio.create_task_group() as tasks:
            for rank, spec in ((2, B), (1, A), (3, A), (0, B)):
                tasks.start_soon(index, rank, spec)
        await slot.wait_for("idle", timeout=10)
        assert slot.status().memory.leaked is False
    names = [name for _, name in log]
    assert names == ["b"] * 6 + ["a"] * 6 or names == ["a"] * 6 + ["b"] * 6
    assert loader.loads == sorted(set(loader.loads), key=loader.loads.index), "each model was loaded once"


async def test_a_turn_owed_to_an_indexer_that_left_is_nobodys():
    loader = FakeLoader(stages=[("weights", 10.0), ("self-test", 0.0)])
    async with virtual_slot(loader) as (slot, _):

        async def search():
            while True:
                async with slot.use(A, wait=60):
                    pass
                await anyio.sleep(90)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(search)
            await slot.wait_for("ready", timeout=60)
            with anyio.move_on_after(605):  # the cap is reached at 600 and the load begins
                async with slot.use(B, Priority.INDEX):
                    pytest.fail("the load takes longer")
            assert slot.status().counters.starvation_cap_hits == 1
            tasks.cancel_scope.cancel()
        await slot.unload()
        loader.loads.clear()
        async with anyio.create_task_group() as tasks:
            for spec, priority in ((B, Priority.INDEX), (A, Priority.TOOL)):
                tasks.start_soon(use_once, slot, spec, priority)
            await anyio.sleep(5)
        assert loader.loads[-2:] == ["a", "b"], "the tool call first"


async def use_once(slot, spec, priority):
    async with slot.use(spec, priority, wait=1000):
        pass
