"""Accepts the connections of relays and commands: an owner goes on when file descriptors run out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.abc import SocketListener, SocketStream, TaskGroup

from mcp_server.page.unproven import RETRY_S, DescriptorReserve, UnprovenConnections

log = logging.getLogger(__name__)


class PendingHandshakes:
    """Connections whose handshake is not over: few, so that they do not take all file descriptors."""

    def __init__(self) -> None:
        self._unproven = UnprovenConnections()

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Count a handshake for a block, which is cancelled when too many newer ones have begun."""
        scope = anyio.CancelScope()
        self._unproven.add(scope, scope.cancel)
        try:
            with scope:
                yield
        finally:
            self._unproven.discard(scope)

    def cancel_oldest(self) -> None:
        """Cancel the one that has been waiting for longest."""
        self._unproven.close_oldest()


async def accept_connections(
    listener: SocketListener,
    serve: Callable[[SocketStream], Coroutine[Any, Any, None]],
    tasks: TaskGroup,
    handshakes: PendingHandshakes,
) -> None:
    """Accept until the listener is closed.

    Where no descriptor is left, a reserve is given up and the oldest handshake is cancelled; after ``RETRY_S`` seconds
    it tries again, for as long as it takes.

    Args:
        listener: Open.
        serve: Serves one connection.
        tasks: In which it runs.
        handshakes: Of these connections.
    """
    reserve = DescriptorReserve()
    reserve.fill()
    try:
        while True:
            try:
                stream = await listener.accept()
            except anyio.ClosedResourceError:  # closed while a connection was being accepted
                return
            except (OSError, anyio.BrokenResourceError) as error:
                log.warning("a connection cannot be accepted for now: %s", error.__cause__ or error)
                reserve.release()
                handshakes.cancel_oldest()
                await anyio.sleep(RETRY_S)
                continue
            tasks.start_soon(serve, stream)
            reserve.fill()
    finally:
        reserve.release()
