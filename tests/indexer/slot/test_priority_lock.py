"""The lock alone, in virtual time on both backends: order, aging, hand-off, cancellation, deferred release."""

import asyncio
from dataclasses import dataclass

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from effort import scaled
from fakes import virtual_backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.slot.priority_lock import Dismissed, Lease, Priority, PriorityLock


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


async def hold(lock, priority, name, seconds, log):
    lease = await lock.acquire(priority)
    log.append(name)
    try:
        await anyio.sleep(seconds)
        assert lock.owner is lease
    finally:
        lock.release(lease)


async def served_in_order(arrivals, *, age_after=60.0):
    """Names in the order they got the lock; arrivals: (at, priority, name, holds)."""
    lock, log = PriorityLock(age_after=age_after), []

    async def arrive(at, priority, name, seconds):
        await anyio.sleep(at)
        await hold(lock, priority, name, seconds, log)

    with anyio.fail_after(10_000):
        async with anyio.create_task_group() as tasks:
            for arrival in arrivals:
                tasks.start_soon(arrive, *arrival)
    assert lock.owner is None and not lock.waiters
    return log


async def test_a_waiting_query_goes_before_earlier_index_batches():
    order = await served_in_order(
        [(0, Priority.INDEX, "i0", 1), (0.1, Priority.INDEX, "i1", 1), (0.2, Priority.TOOL, "t", 1)]
    )
    assert order == ["i0", "t", "i1"]


async def test_unloading_goes_last():
    order = await served_in_order(
        [(0, Priority.TOOL, "t", 1), (0.1, Priority.UNLOAD, "u", 1), (0.2, Priority.INDEX, "i", 1)]
    )
    assert order == ["t", "i", "u"]


async def test_within_a_class_the_first_to_come_is_the_first_served():
    arrivals = [(n / 100, Priority.TOOL, n, 1) for n in range(10)]
    assert await served_in_order(arrivals) == list(range(10))


async def test_an_index_waiter_counts_as_a_tool_call_after_a_minute():
    # Tool calls of 10 s arrive every 5 s: without aging the index waiter would be last of all.
    arrivals = [(n * 5, Priority.TOOL, f"t{n}", 10) for n in range(40)] + [(1, Priority.INDEX, "i", 1)]
    order = await served_in_order(arrivals)
    # 60 s after second 1 the lock is free next at 70 s; t0..t6 have gone, all others came later than the index.
    assert order.index("i") == 7


async def test_unload_waiters_do_not_age():
    arrivals = [(n * 5, Priority.TOOL, f"t{n}", 10) for n in range(40)] + [(1, Priority.UNLOAD, "u", 1)]
    assert (await served_in_order(arrivals))[-1] == "u"


async def test_order_within_a_class_is_by_order_then_arrival():
    lock = PriorityLock()
    first, got = await lock.acquire(Priority.TOOL), []

    async def ask(order, name):
        lease = await lock.acquire(Priority.INDEX, order=order)
        got.append(name)
        lock.release(lease)

    async with anyio.create_task_group() as tasks:
        for order, name in ((2, "new folder"), (1, "old folder"), (1, "old folder, later")):
            tasks.start_soon(ask, order, name)
            await wait_all_tasks_blocked()
        lock.release(first)
    assert got == ["old folder", "old folder, later", "new folder"]


async def test_a_newcomer_never_overtakes_a_waiter_in_the_tick_of_the_release():
    lock, log = PriorityLock(), []
    first = await lock.acquire(Priority.TOOL)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, lock, Priority.TOOL, "waiter", 1, log)
        await wait_all_tasks_blocked()
        lock.release(first)
        await hold(lock, Priority.TOOL, "newcomer", 1, log)
    assert log == ["waiter", "newcomer"]


async def test_a_task_that_holds_the_lock_cannot_wait_for_itself():
    lock = PriorityLock()
    lease = await lock.acquire(Priority.TOOL)
    with pytest.raises(RuntimeError, match="already holds"):
        await lock.acquire(Priority.TOOL)
    lock.release(lease)
    lock.release(await lock.acquire(Priority.TOOL))


async def test_the_lock_stays_held_until_the_job_of_a_gone_holder_ends():
    lock, log = PriorityLock(), []
    lease = await lock.acquire(Priority.TOOL)
    lock.job_started(lease)
    lock.release(lease)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, lock, Priority.TOOL, "next", 1, log)
        await wait_all_tasks_blocked()
        assert log == [] and lock.owner is lease
        lock.job_ended(lease)
        await wait_all_tasks_blocked()
        assert log == ["next"]


async def test_a_job_that_ends_does_not_release_an_open_lease():
    lock = PriorityLock()
    lease = await lock.acquire(Priority.TOOL)
    lock.job_started(lease)
    lock.job_ended(lease)
    assert lock.owner is lease


async def test_releasing_twice_does_not_take_the_lock_from_its_next_holder():
    lock = PriorityLock()
    first = await lock.acquire(Priority.TOOL)
    lock.release(first)
    second = await lock.acquire(Priority.TOOL)
    lock.release(first)
    assert lock.owner is second


async def test_a_cancelled_waiter_is_forgotten_at_once():
    lock = PriorityLock()
    first = lock.acquire_nowait()
    with anyio.move_on_after(1) as scope:
        await lock.acquire(Priority.TOOL)
    assert scope.cancelled_caught and anyio.current_time() == pytest.approx(1.0)
    assert lock.waiters == ()
    lock.release(first)
    assert lock.owner is None


@pytest.mark.parametrize("release_first", [True, False])
async def test_a_hand_over_that_races_with_a_cancellation_is_passed_on(release_first):
    lock, log = PriorityLock(), []
    first = await lock.acquire(Priority.TOOL)
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def doomed():
            with scope:
                await hold(lock, Priority.TOOL, "doomed", 1, log)

        tasks.start_soon(doomed)
        await wait_all_tasks_blocked()
        tasks.start_soon(hold, lock, Priority.TOOL, "next", 1, log)
        await wait_all_tasks_blocked()
        if release_first:
            lock.release(first)
            scope.cancel()
        else:
            scope.cancel()
            lock.release(first)
    # Either order is an answer; a lock that nobody holds and somebody waits for is not.
    assert log[-1] == "next" and lock.owner is None


async def test_a_dismissed_waiter_is_told_and_forgotten():
    lock = PriorityLock()
    first = await lock.acquire(Priority.TOOL)
    async with anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(Dismissed):
                await lock.acquire(Priority.TOOL)

        tasks.start_soon(ask)
        await wait_all_tasks_blocked()
        lock.dismiss(lock.waiters[0])
        lock.dismiss(first)  # a holder is not a waiter: nothing happens
    assert lock.owner is first and lock.waiters == ()


async def test_take_holds_a_free_lock_and_refuses_a_held_one():
    lock = PriorityLock()
    lease = lock.acquire_nowait("load")
    assert lock.owner is lease and lease.tag == "load"
    with pytest.raises(RuntimeError, match="held"):
        lock.acquire_nowait()


async def test_statistics_say_who_holds_and_who_waits_for_how_long():
    lock = PriorityLock()
    lease = await lock.acquire(Priority.TOOL)
    lock.job_started(lease)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lock.acquire, Priority.INDEX)
        await anyio.sleep(7)
        figures = lock.statistics()
        assert (figures.held, figures.busy, figures.oldest_wait_s) == (True, True, pytest.approx(7))
        assert figures.waiting == {Priority.TOOL: 0, Priority.INDEX: 1, Priority.UNLOAD: 0}
        tasks.cancel_scope.cancel()


@dataclass(frozen=True)
class Visitor:
    """One random task: comes, perhaps runs a job, perhaps is cancelled."""

    at: float
    priority: Priority
    holds: float
    job: float
    cancelled: float | None


def tenths(most):
    return st.integers(0, most).map(lambda n: n / 10)


VISITORS = st.lists(
    st.builds(Visitor, tenths(20), st.sampled_from(Priority), tenths(8), tenths(8), st.none() | tenths(40)),
    min_size=1,
    max_size=10,
)


@pytest.mark.slow
@settings(max_examples=scaled(120), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VISITORS)
async def test_any_arrivals_holds_jobs_and_cancels_leave_the_lock_exclusive_and_nobody_forgotten(visitors):
    lock = PriorityLock(age_after=2.0)
    held: list[Lease] = []
    served = 0

    def exclusive():
        assert len(held) <= 1
        if lock.owner is None:
            assert not lock.waiters  # I3

    async def visit(visitor):
        nonlocal served
        await anyio.sleep(visitor.at)
        with anyio.CancelScope() as scope:
            if visitor.cancelled is not None:
                scope.deadline = anyio.current_time() + visitor.cancelled
            lease = await lock.acquire(visitor.priority)
            served += 1
            held.append(lease)
            exclusive()
            assert lock.owner is lease
            waiting = [w for w in lock.waiters if w.seq < lease.seq and w.priority < lease.priority]
            now = anyio.current_time()
            assert not waiting or now - lease.enqueued >= 2.0 or any(w.enqueued == now for w in waiting)  # I4
            try:
                if visitor.job:
                    lock.job_started(lease)
                    tasks.start_soon(run_job, lease, visitor.job)
                await anyio.sleep(visitor.holds)
            finally:
                if not lease.busy:
                    held.remove(lease)
                lock.release(lease)
                exclusive()

    async def run_job(lease, seconds):
        await anyio.sleep(seconds)
        assert lock.owner is lease  # I2: nobody got in while it ran
        if not lease.open:
            held.remove(lease)
        lock.job_ended(lease)
        exclusive()

    with anyio.fail_after(1000):
        async with anyio.create_task_group() as tasks:
            for visitor in visitors:
                tasks.start_soon(visit, visitor)
    assert lock.owner is None and not lock.waiters and not held
    assert served >= sum(visitor.cancelled is None for visitor in visitors)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("release_first", [True, False])
async def test_a_native_cancellation_in_the_tick_of_the_release_loses_nothing(anyio_backend, release_first):
    lock = PriorityLock()
    first = await lock.acquire(Priority.TOOL)
    doomed = asyncio.create_task(lock.acquire(Priority.TOOL))
    following = asyncio.create_task(lock.acquire(Priority.INDEX))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if release_first:
        lock.release(first)
        doomed.cancel()
    else:
        doomed.cancel()
        lock.release(first)
    with anyio.fail_after(5):
        lease = await following
    assert lock.owner is lease
    with pytest.raises(asyncio.CancelledError):
        await doomed
