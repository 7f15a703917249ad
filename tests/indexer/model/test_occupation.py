"""Work in the empty slot, in virtual time: it makes room at every step, and never are two models alive."""

from functools import partial

import anyio
import pytest
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot

from indexer.errors import SlotUnavailable
from indexer.model.failure import Stopped
from indexer.model.priority_lock import Priority
from indexer.model.slot_settings import Limits, SlotSettings

A, B, TORCH = model_spec("a"), model_spec("b"), model_spec("torch-only")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


class Work:
    """Two models one after the other, like an export; keeps count of what was begun, and of the first half's end."""

    def __init__(self, loader, thread, seconds=10.0):
        self.loader, self.thread, self.seconds = loader, thread, seconds
        self.begun = 0
        self.half = False
        self.most_alive = 0

    def steps(self, progress, stopped):
        self.begun += 1
        if not self.half:
            yield from self.with_a_model("writing", progress, stopped)
            self.half = True
        yield from self.with_a_model("comparing", progress, stopped)
        return "made"

    def with_a_model(self, stage, progress, stopped):
        progress(stage, 0.5)
        model = self.loader.load(TORCH, lambda stage, done: None, stopped)
        try:
            yield
            self.thread.sleep(self.seconds)
            model.embed_passages(["x"])
        finally:
            model.close()
        yield


async def test_it_waits_until_nobody_wants_anything():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread):
        work = Work(loader, thread)
        async with slot.use(A), anyio.create_task_group() as tasks:
            tasks.start_soon(slot.occupy, TORCH, work.steps)
            await anyio.wait_all_tasks_blocked()
            assert not work.begun
            tasks.start_soon(partial(index, slot, A))
            tasks.cancel_scope.cancel()
        start = anyio.current_time()
        assert await slot.occupy(TORCH, work.steps) == "made"
        assert anyio.current_time() - start == pytest.approx(320)  # the warm window, then two steps
        assert slot.status().state == "idle"
    assert loader.most_alive == 1


async def index(slot, spec):
    async with slot.use(spec, Priority.INDEX) as lent:
        await lent.embed_passages(["x"])


async def test_status_shows_what_it_does():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        tasks.start_soon(slot.occupy, TORCH, Work(loader, thread).steps)
        await anyio.sleep(15)
        status = slot.status()
        assert (status.state, status.stage, status.progress) == ("exporting", "comparing", 0.5)
        assert status.model is not None and status.model.name == "torch-only"
        assert status.holder is not None and status.holder.kind == "export"
        await slot.wait_for("idle", timeout=100)


@pytest.mark.parametrize("priority", [Priority.TOOL, Priority.INDEX])
async def test_whoever_comes_waits_for_one_step_at_most_and_what_is_finished_is_not_done_again(priority):
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        work = Work(loader, thread)
        tasks.start_soon(slot.occupy, TORCH, work.steps)
        await anyio.sleep(14)  # in the second half
        async with slot.use(B, priority):
            assert anyio.current_time() == pytest.approx(20)
            assert [model.spec.name for model in loader.alive] == ["b"]
            assert slot.status().state == "ready"
        await slot.wait_for("exporting", timeout=1000)
        await slot.wait_for("idle", timeout=1000)
        assert work.begun == 2
        assert loader.loads == ["torch-only", "torch-only", "b", "torch-only"]
    assert loader.most_alive == 1


async def test_a_step_that_asks_is_left_in_the_middle():
    loader = FakeLoader(stages=[("files", 4.0), ("weights", 4.0)])
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        tasks.start_soon(slot.occupy, TORCH, Work(loader, thread).steps)
        await anyio.sleep(1)
        async with slot.use(B):
            assert anyio.current_time() == pytest.approx(4 + 8)
        tasks.cancel_scope.cancel()
    assert loader.most_alive == 1


async def test_a_warm_window_that_never_ends_keeps_it_waiting_for_the_starvation_cap_only():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        work = Work(loader, thread)

        async def search_now_and_then():
            while True:
                async with slot.use(A) as lent:
                    await lent.embed_query("x")
                await anyio.sleep(240)

        tasks.start_soon(search_now_and_then)
        await anyio.sleep(1)
        assert await slot.occupy(TORCH, work.steps) == "made"
        assert anyio.current_time() == pytest.approx(601 + 20)
        tasks.cancel_scope.cancel()


async def test_without_a_cap_the_warm_window_holds():
    loader = FakeLoader()
    async with virtual_slot(loader, SlotSettings(starvation_cap=0)) as (slot, thread):
        async with slot.use(A):
            pass
        await slot.occupy(TORCH, Work(loader, thread).steps)
        assert anyio.current_time() == pytest.approx(300 + 20)


async def test_a_failed_step_is_told_and_the_slot_goes_on():
    loader = FakeLoader()
    loader.failures[TORCH.key] = [OSError(28, "No space left on device")]
    async with virtual_slot(loader) as (slot, thread):
        with pytest.raises(SlotUnavailable) as caught:
            await slot.occupy(TORCH, Work(loader, thread).steps)
        assert caught.value.code == "disk_full"
        assert slot.status().state == "idle"
        async with slot.use(A):
            pass
    assert loader.most_alive == 1


async def test_cancelled_in_a_step_the_lock_is_held_until_its_model_is_gone():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread):
        with anyio.move_on_after(3):
            await slot.occupy(TORCH, Work(loader, thread).steps)
        assert anyio.current_time() == pytest.approx(3)
        assert slot.status().state == "exporting"
        async with slot.use(A):
            assert anyio.current_time() == pytest.approx(10)
    assert loader.most_alive == 1


async def test_closing_the_slot_sends_everybody_away_and_leaves_no_model():
    loader = FakeLoader()
    codes = []

    async def try_it(slot, work):
        try:
            await slot.occupy(TORCH, work.steps)
        except SlotUnavailable as refusal:
            codes.append(refusal.code)

    async with anyio.create_task_group() as tasks:
        async with virtual_slot(loader) as (slot, thread):
            work = Work(loader, thread, seconds=1.0)
            tasks.start_soon(try_it, slot, work)
            tasks.start_soon(try_it, slot, work)
            await anyio.sleep(0.5)
        assert anyio.current_time() == pytest.approx(1.0)
    assert codes == ["stopping", "stopping"]
    assert not loader.alive


async def test_a_step_without_end_is_told_to_the_owner():
    loader, said = FakeLoader(), []
    settings = SlotSettings(limits=Limits(step=50.0), on_wedged=said.append)
    async with virtual_slot(loader, settings) as (slot, thread), anyio.create_task_group() as tasks:
        tasks.start_soon(slot.occupy, TORCH, Work(loader, thread, seconds=60.0).steps)
        await anyio.sleep(49)
        assert not said
        await anyio.sleep(2)
        assert said == ["a job on the model thread has not ended after 50 s"]
        tasks.cancel_scope.cancel()


async def test_a_thread_that_dies_in_a_step_is_told():
    loader, codes = FakeLoader(), []
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:

        async def work():
            with pytest.raises(SlotUnavailable) as caught:
                await slot.occupy(TORCH, Work(loader, thread).steps)
            codes.append(caught.value.code)

        tasks.start_soon(work)
        await anyio.sleep(3)
        thread.fail_all()
        async with slot.use(A):
            pass
    assert codes == ["thread_died"]


async def test_work_that_stops_without_being_asked_is_begun_again():
    loader = FakeLoader()
    begun = []
    async with virtual_slot(loader) as (slot, _):

        def steps(progress, stopped):
            begun.append(1)
            yield
            if len(begun) == 1:
                raise Stopped
            return 7

        assert await slot.occupy(TORCH, steps) == 7
    assert len(begun) == 2
