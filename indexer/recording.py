"""What wakes those who watch, and what is written down for them meanwhile."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import anyio

from indexer.history import Recorder
from indexer.ledger import Ledger
from indexer.pulse import Pulse
from indexer.slot.slot import ModelSlot
from indexer.status import Status

HEARTBEAT = 15.0
"""Seconds after which a snapshot goes out although nothing was announced: memory and ages change by themselves."""


async def record_work(recorder: Recorder, ledger: Ledger, pulse: Pulse, shown: Pulse) -> None:
    """Write down what the passes do, and pass every beat on to those who watch; until cancelled."""
    while True:
        recorder.work_is(time.time(), ledger.work())
        shown.beat()
        await pulse.wait()


async def record_slot(recorder: Recorder, slot: ModelSlot, shown: Pulse) -> None:
    """Write down the slot's states, and pass every change of it on to those who watch; until it is closed."""
    async for snapshot in slot.watch():
        recorder.slot_is(snapshot)
        shown.beat()


async def snapshots(take: Callable[[], Status], shown: Pulse, at_most_every: float) -> AsyncIterator[Status]:
    """Yield a snapshot now and after every beat, also after those that fall between two looks.

    Args:
        take: Makes a snapshot.
        shown: Beats when there is something new to see.
        at_most_every: Seconds between two snapshots at least.
    """
    while True:
        seen = shown.beats
        yield take()
        with anyio.move_on_after(HEARTBEAT):
            await shown.after(seen)
        await anyio.sleep(at_most_every)
