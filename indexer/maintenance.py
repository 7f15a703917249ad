"""Keeps the index small and quick: runs the store's maintenance when it is due and nobody is working."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from indexer import timing
from indexer.errors import StoreError
from indexer.ledger import Ledger
from indexer.pulse import Pulse
from indexer.store.store import Store

log = logging.getLogger(__name__)


async def maintain(store: Store, ledger: Ledger, pulse: Pulse, idle: Callable[[], bool]) -> None:
    """Run until cancelled: urgent maintenance at once, the rest when nothing has been done for a while."""
    while True:
        if store.urgent():
            await _run(store, ledger, pulse)
        elif store.due() and idle():
            with anyio.move_on_after(timing.MAINTENANCE_QUIET_S) as quiet:
                await pulse.wait()
            if quiet.cancelled_caught and idle():
                await _run(store, ledger, pulse)
        else:
            with anyio.move_on_after(max(1.0, store.due_in())):  # what is deleted must go though nothing happens
                await pulse.wait()


async def _run(store: Store, ledger: Ledger, pulse: Pulse) -> None:
    try:
        await store.maintain()
    except StoreError as error:
        ledger.last_error = f"maintenance: {error}"
        log.warning("maintenance: %s", error)
    pulse.beat()
