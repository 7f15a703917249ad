"""The slot in virtual time, on both backends: one model, leased by priority."""

import anyio
import numpy as np
import pytest
from fakes import FakeLoader, hashed_text, model_spec, virtual_backend, virtual_slot

from indexer.errors import SlotUnavailable
from indexer.slot.priority_lock import Priority

A, B = model_spec("a"), model_spec("b")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


async def test_a_query_loads_the_model_and_is_embedded():
    loader = FakeLoader(stages=[("weights", 2.0)])
    async with virtual_slot(loader) as (slot, _):
        assert slot.status().state == "idle"
        async with slot.use(A) as lease:
            vector = await lease.embed_query("red apple")
            assert lease.spec.dim == 64
        np.testing.assert_array_equal(vector, hashed_text("red apple"))
        assert slot.status().state == "ready"
        assert anyio.current_time() == pytest.approx(2.0)
    assert not loader.alive


async def test_the_model_is_unloaded_exactly_when_its_warm_window_ends():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        start = anyio.current_time()
        async with slot.use(A):
            pass
        await anyio.sleep(299)
        async with slot.use(A):
            pass
        await slot.wait_for("idle", timeout=1000)
        assert anyio.current_time() - start == pytest.approx(599, abs=1e-3)
        assert slot.status().counters.unloads == 1
        assert not loader.alive


async def test_transitions_and_the_loaded_key_are_told_without_a_snapshot(monkeypatch):
    monkeypatch.setattr("indexer.slot.slot.slot_status", lambda *arguments: pytest.fail("a snapshot was taken"))
    loader = FakeLoader(stages=[("weights", 1.0)])
    seen = []

    async def follow(slot):
        async for transition in slot.transitions():
            if not seen or seen[-1][0] != transition.epoch:
                seen.append((transition.epoch, transition.state, transition.model))

    async with anyio.create_task_group() as tasks:  # noqa: SIM117 - the slot is closed first
        async with virtual_slot(loader) as (slot, _):
            tasks.start_soon(follow, slot)
            await anyio.wait_all_tasks_blocked()
            assert slot.loaded_key == ""
            async with slot.use(A):
                assert slot.loaded_key == A.key
                await anyio.wait_all_tasks_blocked()
            await slot.unload()
            assert slot.loaded_key == ""
    lasting = [each for each in seen if each[1] != "unloading"]  # over within one step of the loop
    assert lasting == [(0, "idle", ""), (1, "loading", "a"), (2, "ready", "a"), (4, "idle", "")]


async def test_two_models_take_turns_and_are_never_alive_together():
    loader = FakeLoader(stages=[("weights", 1.0)])
    async with virtual_slot(loader) as (slot, _):

        async def ask(spec):
            for _ in range(3):
                async with slot.use(spec, wait=60) as lease:
                    await lease.embed_query("x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, A)
            tasks.start_soon(ask, B)
    assert loader.most_alive == 1
    assert sorted(set(loader.loads)) == ["a", "b"]


async def test_indexing_of_another_model_waits_for_the_end_of_the_warm_window():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(A):
            pass
        async with slot.use(B, Priority.INDEX) as lease:
            assert anyio.current_time() == pytest.approx(300, abs=1e-3)
            assert (await lease.embed_passages(["a", "b"])).shape == (2, 64)


async def test_a_load_that_fails_for_good_is_reported_with_its_remedy():
    loader = FakeLoader()
    loader.failures["a"] = [ImportError("No module named 'torch'", name="torch")]
    async with virtual_slot(loader) as (slot, _):
        with pytest.raises(SlotUnavailable) as caught:
            async with slot.use(A):
                pass
        assert caught.value.code == "dependency_missing"
        assert "torch" in caught.value.hint
        assert slot.status().last_error.attempt == 1
        async with slot.use(B) as lease:
            await lease.embed_query("other models go on")
