"""Parser processes between two files: each is kept for a while, then ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from indexer.text.process import ParserProcess

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


class Resting:
    """Idle processes.

    Args:
        tasks: Where their time runs.
        patience: Seconds until one that nobody takes is ended.
        ended: Called with a process that is about to be ended.
    """

    def __init__(self, tasks: TaskGroup, patience: float, ended: Callable[[ParserProcess], None]) -> None:
        self._tasks = tasks
        self._patience = patience
        self._ended = ended
        self._idle: list[tuple[ParserProcess, anyio.CancelScope]] = []

    def __contains__(self, parser: ParserProcess) -> bool:
        return any(parser is idle for idle, _ in self._idle)

    def put(self, parser: ParserProcess) -> None:
        """Keep a process for the next file."""
        expiry = anyio.CancelScope()
        self._idle.append((parser, expiry))
        self._tasks.start_soon(self._expire, parser, expiry)

    def take(self) -> ParserProcess | None:
        """The process that rested last, living or not; None when there is none."""
        if not self._idle:
            return None
        parser, expiry = self._idle.pop()
        expiry.cancel()
        return parser

    def clear(self) -> None:
        """Forget all of them; ending them is the caller's."""
        while self.take() is not None:
            pass

    async def _expire(self, parser: ParserProcess, expiry: anyio.CancelScope) -> None:
        with expiry:
            await anyio.sleep(self._patience)
            # From here to the removal nothing waits, so nobody can take it in between.
            self._idle.remove((parser, expiry))
            self._ended(parser)
            await parser.close()
