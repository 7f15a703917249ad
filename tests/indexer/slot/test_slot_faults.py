"""What the slot does when loads stall, fail, outlive their limits, and when leases are forgotten. Virtual time."""

import anyio
import pytest
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot

from indexer.errors import SlotUnavailable
from indexer.slot.priority_lock import Priority
from indexer.slot.slot_types import Limits, SlotSettings

A, B = model_spec("a"), model_spec("b")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


async def refused(slot, spec, priority=Priority.TOOL, **arguments):
    """The refusal of a use, and after how many seconds it came."""
    began = anyio.current_time()
    with pytest.raises(SlotUnavailable) as caught:
        async with slot.use(spec, priority, **arguments):
            pytest.fail("served")
    return caught.value, anyio.current_time() - began


async def served_after(slot, spec, priority=Priority.TOOL, **arguments):
    began = anyio.current_time()
    async with slot.use(spec, priority, **arguments) as lease:
        waited = anyio.current_time() - began
        await lease.embed_query("x")
    return waited


async def test_a_load_without_progress_has_failed_after_thirty_seconds():
    loader = FakeLoader(stages=[("weights", 500.0)])
    async with virtual_slot(loader) as (slot, _):
        error, after = await refused(slot, A, wait=600)
        assert (error.code, after) == ("load_timeout", pytest.approx(30, abs=1e-3))
        snapshot = slot.status()
        assert snapshot.state == "error" and snapshot.orphan.key == "a"
        assert "30 s" in snapshot.last_error.message and "weights" in snapshot.last_error.message
        assert snapshot.last_error.next_retry_at is None, "nothing is tried while the orphan runs"


async def test_progress_extends_the_limit_up_to_two_minutes_in_all():
    loader = FakeLoader(stages=[(f"weights {n}", 29.0) for n in range(4)])  # 116 s
    async with virtual_slot(loader) as (slot, _):
        assert await served_after(slot, A, wait=600) == pytest.approx(116)
    loader = FakeLoader(stages=[(f"weights {n}", 29.0) for n in range(5)])
    async with virtual_slot(loader) as (slot, _):
        error, after = await refused(slot, A, wait=600)
        assert (error.code, after) == ("load_timeout", pytest.approx(120, abs=1e-3))


async def test_the_first_import_of_a_runtime_has_a_limit_of_its_own():
    loader = FakeLoader(stages=[("runtime", 110.0), ("weights", 29.0), ("self-test", 29.0)])
    async with virtual_slot(loader) as (slot, _):
        assert await served_after(slot, A, wait=600) == pytest.approx(168)
        loader.stages = [("runtime", 40.0)]  # imported already: an ordinary stage now
        error, after = await refused(slot, B, wait=600)
        assert (error.code, after) == ("load_timeout", pytest.approx(30, abs=1e-3))


async def test_an_import_that_hangs_is_not_retried():
    loader = FakeLoader(stages=[("runtime", 10_000.0)])
    async with virtual_slot(loader) as (slot, _):
        error, after = await refused(slot, A, wait=600)
        assert (error.code, after) == ("load_timeout", pytest.approx(120, abs=1e-3))
        assert not slot.status().last_error.retryable


async def test_while_an_orphan_holds_the_slot_tool_calls_fail_at_once_and_no_second_load_begins():
    loader = FakeLoader(stages=[("weights", 100.0)])
    async with virtual_slot(loader) as (slot, thread):
        async with anyio.create_task_group() as tasks:

            async def ask_other():
                await anyio.sleep(5)
                error, after = await refused(slot, B, wait=600)
                assert (error.code, after) == ("orphaned_load", pytest.approx(25, abs=1e-3))

            tasks.start_soon(ask_other)
            await refused(slot, A, wait=600)
        for spec in (A, B):
            error, after = await refused(slot, spec, wait=600)
            assert (error.code, after) == ("orphaned_load", 0.0)
        assert loader.loads == ["a"] and thread.most_running == 1


async def test_an_orphan_that_comes_home_is_adopted_when_it_is_still_wanted():
    loader = FakeLoader(stages=[("weights", 100.0)])
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A)
        await slot.wait_for("ready", timeout=200)
        assert anyio.current_time() == pytest.approx(100, abs=1e-3)
        assert await served_after(slot, A) == 0.0
        assert loader.loads == ["a"]
        assert slot.status().last_error is None and slot.status().orphan is None


async def test_an_orphan_that_comes_home_is_disposed_of_when_another_model_is_wanted():
    loader = FakeLoader(stages=[("weights", 40.0)])
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A, wait=600)
        await refused(slot, B)  # at once: orphaned_load
        await slot.wait_for("idle", timeout=100)
        assert anyio.current_time() == pytest.approx(40, abs=1e-3)
        assert not loader.alive


async def test_an_orphan_nobody_wants_stops_at_its_next_stage():
    loader = FakeLoader(stages=[("weights", 50.0), ("self-test", 50.0)])
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A, wait=600)
        await refused(slot, B)
        loader.stages = [("weights", 1.0)]
        async with slot.use(B, Priority.INDEX):
            assert anyio.current_time() == pytest.approx(51, abs=1e-3)


async def test_indexing_waits_through_an_orphan():
    loader = FakeLoader(stages=[("weights", 40.0)])
    async with virtual_slot(loader) as (slot, _):
        assert await served_after(slot, A, Priority.INDEX) == pytest.approx(40, abs=1e-3)


async def test_a_wedged_orphan_is_reported_to_the_owner_once():
    reasons = []
    loader = FakeLoader(stages=[("weights", 100_000.0)])
    async with virtual_slot(loader, SlotSettings(on_wedged=reasons.append)) as (slot, _):
        await refused(slot, A, wait=600)
        await anyio.sleep(119)
        assert reasons == []
        await anyio.sleep(2)
        assert len(reasons) == 1 and "'a'" in reasons[0]
        await anyio.sleep(10_000)
        assert len(reasons) == 1


async def test_a_retryable_failure_is_tried_three_times_fifteen_seconds_after_each_end():
    loader = FakeLoader(stages=[("weights", 4.0)])
    loader.failures["a"] = [OSError("connection reset by peer") for _ in range(9)]
    times = []
    load = loader.load

    def timed(*arguments):
        times.append(thread.loop_time)
        return load(*arguments)

    loader.load = timed
    async with virtual_slot(loader) as (slot, thread):
        error, after = await refused(slot, A, wait=600)
        assert (error.code, after, error.retry_after) == ("network", pytest.approx(4), pytest.approx(15))
        first = slot.status().last_error
        assert (first.attempt, first.max_attempts, first.retryable) == (1, 3, True)
        assert first.next_retry_at == pytest.approx(1_000_019)
        error, after = await refused(slot, A, wait=600)
        assert (error.code, after) == ("network", 0.0), "a tool call does not wait for a retry"
        await anyio.sleep(100)
        assert times == pytest.approx([0, 19, 38])
        assert slot.status().breaker == ("a",) and slot.status().last_error.attempt == 3


async def test_a_load_that_succeeds_at_the_second_attempt_clears_the_error():
    loader = FakeLoader()
    loader.failures["a"] = [OSError("timed out")]
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A)
        await anyio.sleep(16)
        assert slot.status().state == "ready" and slot.status().errors == ()
        assert await served_after(slot, A) == 0.0


async def test_indexing_waits_through_retries_and_is_told_when_they_are_over():
    loader = FakeLoader(stages=[("weights", 1.0)])
    loader.failures["a"] = [OSError("timed out") for _ in range(3)]
    async with virtual_slot(loader) as (slot, _):
        error, after = await refused(slot, A, Priority.INDEX)
        assert (error.code, after, error.retry_after) == ("network", pytest.approx(33), pytest.approx(300))
        error, after = await refused(slot, A, Priority.INDEX)
        assert after == 0.0, "the breaker is open"


async def test_a_failure_that_lasts_is_tried_once():
    loader = FakeLoader()
    loader.failures["a"] = [FileNotFoundError(2, "No such file or directory", "/models/a/model.onnx")]
    async with virtual_slot(loader) as (slot, _):
        error, _ = await refused(slot, A)
        assert error.code == "model_not_found"
        await anyio.sleep(250)
        assert loader.loads == ["a"] and slot.status().breaker == ("a",)
        await refused(slot, A)
        assert loader.loads == ["a"]


async def test_an_open_breaker_lets_one_attempt_through_after_five_minutes_or_on_request():
    loader = FakeLoader()
    loader.failures["a"] = [PermissionError(13, "Permission denied") for _ in range(3)]
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A)
        await anyio.sleep(301)
        assert loader.loads == ["a"], "nobody asked"
        await refused(slot, A)
        assert loader.loads == ["a", "a"]
        assert slot.retry("a")
        await slot.wait_for("error")
        await anyio.sleep(1)
        assert loader.loads == ["a", "a", "a"]
        assert slot.retry("a") and not slot.retry("unknown")
        await slot.wait_for("ready", timeout=10)


async def test_a_changed_configuration_of_the_model_is_a_new_start():
    loader = FakeLoader()
    loader.failures["a"] = [FileNotFoundError(2, "No such file")]
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A)
        moved = model_spec("a", directory="/elsewhere")
        assert await served_after(slot, moved) == 0.0


async def test_another_model_is_served_between_two_attempts():
    loader = FakeLoader(stages=[("weights", 1.0)])
    loader.failures["a"] = [OSError("timed out") for _ in range(3)]
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A)
        assert await served_after(slot, B) == pytest.approx(1.0)
        await anyio.sleep(60)
        assert loader.loads == ["a", "b"], "a retry for nobody present does not drive out a warm model"
        assert slot.status().state == "ready"


async def test_the_failure_of_one_model_does_not_touch_those_who_wait_for_another():
    loader = FakeLoader(stages=[("weights", 5.0)])
    loader.failures["a"] = [PermissionError(13, "Permission denied")]
    async with virtual_slot(loader) as (slot, _), anyio.create_task_group() as tasks:
        tasks.start_soon(refused, slot, A)
        await anyio.sleep(1)
        assert await served_after(slot, B) == pytest.approx(9)


async def test_askers_of_the_same_model_join_one_load_and_leaving_does_not_cancel_it():
    loader = FakeLoader(stages=[("weights", 10.0)])
    async with virtual_slot(loader) as (slot, _):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(served_after, slot, A)
            error, after = await refused(slot, A, wait=3)
            assert (error.code, after) == ("loading", pytest.approx(3))
        assert loader.loads == ["a"] and anyio.current_time() == pytest.approx(10)


async def test_a_load_whose_askers_left_is_dropped_only_when_another_model_is_wanted():
    loader = FakeLoader(stages=[("weights", 10.0), ("self-test", 10.0)])
    async with virtual_slot(loader) as (slot, _):
        await refused(slot, A, wait=1)
        assert await served_after(slot, B, wait=60) == pytest.approx(9 + 20)
        assert slot.status().counters.loads == 1 and slot.status().counters.load_failures == 0
        await slot.unload()
        await refused(slot, A, wait=1)
        await slot.wait_for("ready", timeout=60)
        assert slot.status().model.key == "a" and slot.status().warm_until is not None


async def test_a_lease_without_a_job_is_revoked_after_thirty_seconds():
    async with virtual_slot(FakeLoader()) as (slot, _):
        async with slot.use(A) as lease:
            await anyio.sleep(29)
            await lease.embed_query("x")  # the half minute starts anew
            await anyio.sleep(29)
            assert slot.status().holder.kind == "tool"
            await anyio.sleep(2)
            assert slot.status().counters.revoked == 1 and slot.status().holder is None
            assert lease.should_yield()
            with pytest.raises(SlotUnavailable) as caught:
                await lease.embed_query("x")
            assert caught.value.code == "revoked"
        assert await served_after(slot, A) == 0.0


async def test_a_long_job_is_not_an_idle_lease_but_a_wedged_one_is_reported():
    reasons = []
    loader = FakeLoader()
    async with virtual_slot(loader, SlotSettings(on_wedged=reasons.append)) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(1000)
        async with slot.use(A) as lease:
            await lease.embed_query("x")
        assert slot.status().counters.revoked == 0 and len(reasons) == 1


async def test_more_than_sixty_four_waiting_tool_calls_are_told_busy():
    loader = FakeLoader(stages=[("weights", 10.0)])
    async with virtual_slot(loader) as (slot, _), anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(served_after, slot, A)
        await anyio.sleep(1)
        assert slot.status().queue.tool == 64
        error, after = await refused(slot, A)
        assert (error.code, after) == ("busy", 0.0)


async def test_a_tool_call_waits_no_longer_than_it_said():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(60)

        async def occupy():
            async with slot.use(A) as lease:
                await lease.embed_query("x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(occupy)
            await anyio.sleep(1)
            error, after = await refused(slot, A)
            assert (error.code, after) == ("waiting", pytest.approx(20, abs=1e-2))
            error, after = await refused(slot, A, wait=0)
            assert after < 0.01
        async with slot.use(A, wait=0):
            pass  # free: lent at once, even without any wait


async def test_a_lost_device_is_not_used_again_and_the_owner_is_told():
    reasons = []
    loader = FakeLoader()

    def lose(kind, count):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    loader.work = lose
    async with virtual_slot(loader, SlotSettings(on_wedged=reasons.append)) as (slot, _):
        with pytest.raises(SlotUnavailable) as caught:
            async with slot.use(A) as lease:
                await lease.embed_query("x")
        assert caught.value.code == "device_lost" and len(reasons) == 1
        await anyio.sleep(1)
        assert not loader.alive and slot.status().state == "error"
        error, after = await refused(slot, A)
        assert (error.code, after, error.retry_after) == ("device_lost", 0.0, None)
        assert not slot.retry("a")


async def test_a_task_that_holds_the_slot_cannot_ask_for_it_again():
    async with virtual_slot(FakeLoader()) as (slot, _), slot.use(A):
        with pytest.raises(RuntimeError, match="already holds"):
            async with slot.use(B):
                pass


async def test_limits_are_settings():
    loader = FakeLoader(stages=[("weights", 10.0)])
    async with virtual_slot(loader, SlotSettings(limits=Limits(stall=5))) as (slot, _):
        error, after = await refused(slot, A)
        assert (error.code, after) == ("load_timeout", pytest.approx(5, abs=1e-3))
