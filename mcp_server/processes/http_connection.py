"""One HTTP connection within bounds: a client that reads nothing, or sends requests ahead, cannot fill the memory."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

UNREAD_S = 30.0
"""Seconds for which a client may read nothing of what is sent to it; then its connection ends."""
MAX_AHEAD = 64 * 1024
"""Bytes of further requests that a client may send before it is answered. uvicorn reads on at each answer, without
a limit of its own; clients of MCP wait for each answer, or open another connection."""


class BoundedConnection(H11Protocol):
    """uvicorn's protocol with a limit for what waits in either direction."""

    _unread: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self.cycle is not None and not self.cycle.response_complete:
            ahead, _ = self.conn.trailing_data
            if len(ahead) + len(data) > MAX_AHEAD and not self.cycle.more_body:
                self.transport.abort()
                return
        super().data_received(data)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._forget()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what waits for the client."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
