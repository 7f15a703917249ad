"""States pinned by gates, not by sleeps: what arrives in the middle of a load, an unload, a job, a shutdown."""

import time

import anyio
import numpy as np
import pytest
from anyio import wait_all_tasks_blocked
from fakes import FakeLoader, hashed_text, model_spec, virtual_backend, virtual_slot

from indexer.errors import SlotUnavailable
from indexer.slot.priority_lock import Priority

A, B = model_spec("a"), model_spec("b")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


class Gates:
    """Blocks a loader's loads, embeds or releases until the test lets them go."""

    def __init__(self, loader, thread):
        self.gate = anyio.Event()
        self._loader, self._thread = loader, thread

    def _wait(self, *_):
        self._thread.wait(self.gate)

    def hold_loads(self):
        self._loader.stages = [("weights", 1.0), ("self-test", 0.0)]
        self._loader.pause = self._wait

    def hold_work(self):
        self._loader.work = self._wait

    def hold_unloads(self):
        self._loader.release = self._wait


async def ask(slot, spec, log, priority=Priority.TOOL, **arguments):
    try:
        async with slot.use(spec, priority, **arguments) as lease:
            log.append((spec.name, (await lease.embed_query("x")).shape))
    except SlotUnavailable as error:
        log.append((spec.name, error.code))


@pytest.mark.parametrize("spec", [A, B])
async def test_a_request_during_an_unload_is_served_after_it(spec):
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        await ask(slot, A, log)
        gates = Gates(loader, thread)
        gates.hold_unloads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot.unload)
            await slot.wait_for("unloading", timeout=5)
            tasks.start_soon(ask, slot, spec, log)
            await wait_all_tasks_blocked()
            assert slot.status().state == "unloading" and slot.status().queue.tool == 1
            gates.gate.set()
        assert log == [("a", (64,)), (spec.name, (64,))]
        assert loader.most_alive == 1


async def test_a_request_during_the_load_of_another_model_is_served_after_it():
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        gates = Gates(loader, thread)
        gates.hold_loads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, slot, A, log)
            await slot.wait_for("loading", timeout=5)
            tasks.start_soon(ask, slot, B, log)
            await wait_all_tasks_blocked()
            assert loader.loads == ["a"]
            gates.gate.set()
        assert log == [("a", (64,)), ("b", (64,))]


async def test_a_tool_call_does_not_wait_for_a_load_that_only_indexing_wants():
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        gates = Gates(loader, thread)
        gates.hold_loads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, slot, A, log, Priority.INDEX)
            await slot.wait_for("loading", timeout=5)
            tasks.start_soon(ask, slot, B, log)
            await wait_all_tasks_blocked()
            gates.gate.set()
        assert loader.loads == ["a", "b", "a"] and log == [("b", (64,)), ("a", (64,))]
        assert slot.status().counters.loads == 2, "the first load was dropped between its stages"


async def test_unloading_during_a_load_waits_for_it():
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        gates = Gates(loader, thread)
        gates.hold_loads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, slot, A, log)
            await slot.wait_for("loading", timeout=5)
            tasks.start_soon(slot.unload)
            await wait_all_tasks_blocked()
            gates.gate.set()
        assert log == [("a", (64,))] and slot.status().state == "idle" and not loader.alive
        await ask(slot, A, log)
        assert slot.status().state == "ready", "the request to unload was for that once"


async def test_a_caller_cancelled_during_its_job_leaves_at_once_and_the_slot_follows_when_the_job_ends():
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        await ask(slot, A, log)
        gates = Gates(loader, thread)
        loader.alive[0]._pause = gates._wait
        with anyio.move_on_after(1) as scope:
            async with slot.use(A) as lease:
                await lease.embed_query("given up")
        assert scope.cancelled_caught and slot.status().counters.cancelled == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, slot, A, log)
            await wait_all_tasks_blocked()
            assert slot.status().queue.tool == 1 and thread.running == 1
            gates.gate.set()
        assert len(log) == 2 and thread.most_running == 1


@pytest.mark.parametrize("state", ["idle", "loading", "ready", "unloading", "error", "working", "orphaned"])
async def test_the_slot_closes_within_two_seconds_in_every_state(state):
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        gates = Gates(loader, thread)
        async with anyio.create_task_group() as tasks:
            if state in ("loading", "orphaned"):
                gates.hold_loads()
                tasks.start_soon(ask, slot, A, log)
                await slot.wait_for("loading" if state == "loading" else "error", timeout=60)
            elif state == "error":
                loader.failures["a"] = [PermissionError(13, "no")]
                await ask(slot, A, log)
            elif state == "working":
                loader.work = gates._wait
                tasks.start_soon(ask, slot, A, log)
                await slot.wait_for("ready", timeout=5)
                tasks.start_soon(ask, slot, B, log, Priority.INDEX)
                await wait_all_tasks_blocked()
            elif state != "idle":
                await ask(slot, A, log)
                if state == "unloading":
                    gates.hold_unloads()
                    tasks.start_soon(slot.unload)
                    await slot.wait_for("unloading", timeout=5)
            began = anyio.current_time()
            await slot._close()
            assert anyio.current_time() - began <= 2.0
            await ask(slot, A, log)
            assert log[-1] == ("a", "stopping")
            gates.gate.set()
            with anyio.fail_after(5):
                await wait_all_tasks_blocked()
    assert all(isinstance(answer, tuple) or answer in ("stopping", "permission", "loading") for _, answer in log)


async def test_a_dying_thread_fails_the_job_and_the_slot_goes_on():
    loader, log = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread):
        await ask(slot, A, log)
        thread.fail_all()
        gates = Gates(loader, thread)
        gates.hold_loads()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, slot, B, log)
            await slot.wait_for("loading", timeout=5)
            await wait_all_tasks_blocked()
            thread.fail_all()
            await wait_all_tasks_blocked()
            assert log[-1] == ("b", "thread_died") and slot.status().last_error.retryable
            gates.gate.set()


@pytest.mark.parametrize("fits", [1, 3])
async def test_a_batch_that_does_not_fit_the_memory_is_halved_and_nothing_is_lost(fits):
    loader = FakeLoader()

    def pause(kind, count):
        if count > fits:
            raise MemoryError

    loader.work = pause
    texts = [f"text number {n}" for n in range(10)]
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(A, Priority.INDEX) as lease:
            assert lease.batch_size([8] * 10) == 10
            rows = await lease.embed_passages(texts)
            np.testing.assert_array_equal(rows, np.stack([hashed_text(text) for text in texts]))
            assert lease.batch_size([8] * 10) < 10, "the next batches are smaller"
        assert slot.status().counters.batches_halved >= 2
        assert loader.released >= 2


async def test_a_single_text_that_does_not_fit_is_refused_by_name():
    loader = FakeLoader()

    def pause(kind, count):
        raise MemoryError

    loader.work = pause
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(A, Priority.INDEX) as lease:
            with pytest.raises(SlotUnavailable) as caught:
                await lease.embed_passages(["x", "y"])
        assert caught.value.code == "out_of_memory_host"


async def test_a_micro_batch_takes_about_the_target_time():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(count * 0.1)  # 100 tokens in 0.1 s: 1000 tokens a second
        async with slot.use(A, Priority.INDEX) as lease:
            sizes = []
            for _ in range(6):
                count = lease.batch_size([100] * 50)
                sizes.append(count)
                await lease.embed_passages(["x"] * count)
        assert sizes == [2, 8, 10, 10, 10, 10]
        assert slot.status().micro_batch_s == pytest.approx(1.0, abs=0.3)


async def test_status_and_watch_show_every_state_and_a_growing_epoch():
    loader, log, seen = FakeLoader(stages=[("weights", 1.0), ("self-test", 1.0)]), [], []
    async with virtual_slot(loader) as (slot, thread):
        loader.release = lambda: thread.sleep(1.0)

        async def watch():
            async for snapshot in slot.watch():
                if not seen or seen[-1].state != snapshot.state:
                    seen.append(snapshot)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await wait_all_tasks_blocked()
            await ask(slot, A, log)
            await slot.unload()
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert [s.state for s in seen] == ["idle", "loading", "ready", "unloading", "idle"]
        assert [s.epoch for s in seen] == sorted({s.epoch for s in seen})
        assert seen[1].holder.kind == "load" and seen[1].requested == "a"
        with pytest.raises(TimeoutError):
            await slot.wait_for("ready", timeout=3)
        began = time.perf_counter()
        slot.status()
        assert time.perf_counter() - began < 0.05  # the target is 5 ms; a loaded machine is given ten times that
