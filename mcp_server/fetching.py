"""How far a download is: a bar on a terminal, a line now and then elsewhere. Written to stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from indexer.models.download import BytesDone
from mcp_server import console
from mcp_server.protocol.render import size

LINE_EVERY = 5.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def progress(name: str) -> Iterator[BytesDone]:
    """Show the progress of fetching ``name`` for as long as the block is open; what it gives takes (done, total)."""
    if sys.stderr.isatty():
        with _bar(name) as advance:
            yield advance
    else:
        yield Lines(name)


class Lines:
    """Progress as plain lines, for files and pipes. Called from several threads."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._due = 0.0
        self._last = ""
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` bytes are here."""
        with self._lock:
            text = f"{self._name}: {size(done)} of {size(total)}"
            if text == self._last or (self._clock() < self._due and done < total):
                return
            self._last, self._due = text, self._clock() + LINE_EVERY
            console.note(text)


@contextmanager
def _bar(name: str) -> Iterator[BytesDone]:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(console.plain(name), total=None)

        def advance(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield advance
