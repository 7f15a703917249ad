"""Whatever happens in whatever order: one model, legal states, every caller answered, and the slot usable after it."""

from dataclasses import dataclass

import anyio
import pytest
from effort import scaled
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import SlotUnavailable
from indexer.slot.failure import HINTS
from indexer.slot.priority_lock import Priority
from indexer.slot.slot_types import SlotSettings

SPECS = [model_spec(name) for name in "abc"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


@dataclass(frozen=True)
class Caller:
    """Somebody who comes ``at`` a time, embeds some batches, and may be cancelled."""

    at: float
    model: int
    priority: Priority
    batches: int
    holds: float
    cancelled: float | None


@dataclass(frozen=True)
class Event:
    """Something else that happens."""

    at: float
    what: str


def seconds(*choices):
    return st.sampled_from(choices)


CALLERS = st.lists(
    st.builds(
        Caller,
        seconds(0.0, 0.5, 1.0, 5.0, 20.0, 45.0, 100.0, 310.0, 650.0),
        st.integers(0, 2),
        st.sampled_from([Priority.TOOL, Priority.INDEX]),
        st.integers(0, 3),
        seconds(0.0, 0.0, 1.0, 40.0),
        st.none() | seconds(0.0, 0.5, 1.0, 3.0, 30.0),
    ),
    min_size=1,
    max_size=7,
)
EVENTS = st.lists(
    st.builds(Event, seconds(0.2, 1.0, 6.0, 50.0, 320.0), st.sampled_from(["unload", "retry", "thread dies"])),
    max_size=3,
)
# What the next loads do: seconds of their stages, or an error.
OUTCOMES = st.lists(
    st.one_of(
        st.just(0.0),
        seconds(1.0, 10.0, 35.0, 200.0),
        st.sampled_from(
            [
                ImportError("No module named 'x'"),
                OSError("timed out"),
                MemoryError(),
                RuntimeError("CUDA out of memory"),
                KeyError("?"),
            ]
        ),
    ),
    max_size=6,
)


class Play:
    """One random run of the slot, watched."""

    def __init__(self, slot, thread, loader, outcomes):
        self.slot, self.thread, self.loader = slot, thread, loader
        self.outcomes = list(outcomes)
        self.answers = []
        self.epochs = [-1]
        self._load = loader.load
        loader.load = self.load
        loader.work = lambda kind, count: thread.sleep(0.5)

    def load(self, spec, progress, stopped):
        outcome = self.outcomes.pop(0) if self.outcomes else 0.0
        if isinstance(outcome, Exception):
            raise type(outcome)(*outcome.args)
        self.loader.stages = [("files", outcome), ("weights", outcome)]
        return self._load(spec, progress, stopped)

    async def call(self, caller):
        await anyio.sleep(caller.at)
        with anyio.CancelScope() as scope:
            if caller.cancelled is not None:
                scope.deadline = anyio.current_time() + caller.cancelled
            try:
                async with self.slot.use(SPECS[caller.model], caller.priority, folder_rank=caller.model) as lease:
                    assert self.slot.status().state in ("ready", "error")
                    assert lease.spec.key == SPECS[caller.model].key
                    await anyio.sleep(caller.holds)
                    for _ in range(caller.batches):
                        assert (await lease.embed_passages(["x", "y"])).shape == (2, 64)
                        if lease.should_yield():
                            break
                self.answers.append("served")
            except SlotUnavailable as error:
                assert error.code in HINTS and str(error)
                self.answers.append(error.code)
        if scope.cancelled_caught:
            self.answers.append("cancelled")

    async def happen(self, event):
        await anyio.sleep(event.at)
        if event.what == "unload":
            await self.slot.unload()
        elif event.what == "retry":
            self.slot.retry("a")
        else:
            self.thread.fail_all()

    async def watch(self):
        async for snapshot in self.slot.watch():
            assert snapshot.epoch >= self.epochs[-1]
            self.epochs.append(snapshot.epoch)
            if snapshot.state in ("ready", "unloading"):
                assert snapshot.model is not None
            if snapshot.state == "idle":
                assert snapshot.model is None and snapshot.warm_until is None


@pytest.mark.slow
@settings(max_examples=scaled(60), suppress_health_check=list(HealthCheck))
@given(CALLERS, EVENTS, OUTCOMES)
async def test_any_calls_faults_and_cancels_leave_one_model_legal_states_and_a_usable_slot(callers, events, outcomes):
    loader = FakeLoader()
    async with virtual_slot(loader, SlotSettings(linger=1.0)) as (slot, thread):
        play = Play(slot, thread, loader, outcomes)
        async with anyio.create_task_group() as watching:
            watching.start_soon(play.watch)
            with anyio.fail_after(5000):
                async with anyio.create_task_group() as tasks:
                    for caller in callers:
                        tasks.start_soon(play.call, caller)
                    for event in events:
                        tasks.start_soon(play.happen, event)
            assert len(play.answers) == len(callers), "everybody got an answer"
            play.outcomes.clear()
            await anyio.sleep(2000)
            for spec in SPECS:  # after all that, every model can be had
                async with slot.use(spec, wait=100) as lease:
                    await lease.embed_query("x")
            await slot.wait_for("idle", timeout=400)
            watching.cancel_scope.cancel()
        assert thread.most_running == 1
    assert loader.most_alive <= 1 and not loader.alive
