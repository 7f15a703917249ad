"""How far indexing is: bars on a terminal, a line now and then elsewhere. Written to stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from mcp_server.cli import console
from mcp_server.protocol.render import duration, size

if TYPE_CHECKING:
    from indexer.models.download import BytesDone
    from indexer.status_types import Status
    from mcp_server.engine_port import EnginePort


LINE_EVERY = 5.0
"""Seconds between lines where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Point:
    """How far a run is.

    Attributes:
        files: Files that are done with, of ``files_all`` found so far.
        embedded: Chunks with a vector, of ``chunks``.
        rate: Chunks embedded a second, 0 when unknown.
        eta: Seconds left, None when unknown.
        doing: What is going on, for people.
    """

    files: int
    files_all: int
    embedded: int
    chunks: int
    rate: float
    eta: float | None
    doing: str

    @classmethod
    def of(cls, status: Status, folders: Sequence[str] | None) -> Point:
        """Take the folders of a run out of a status; all when None."""
        chosen = [each for each in status.folders if folders is None or each.path in folders]
        done = sum(each.files.indexed + each.files.skipped + each.files.failed for each in chosen)
        left = [each.eta_s for each in chosen if each.eta_s is not None]
        busy = next((each for each in chosen if each.position == 0), None)
        slot = status.slot
        doing = f"{busy.state} {busy.path}" if busy else "waiting"
        if slot.state == "loading":
            doing = f"loading the model ({slot.stage})"
        return cls(
            files=done,
            files_all=done + sum(each.files.pending for each in chosen),
            embedded=sum(each.embedded for each in chosen),
            chunks=sum(each.chunks for each in chosen),
            rate=status.index.rate_chunks_per_s,
            eta=max(left, default=None),
            doing=doing,
        )

    def __str__(self) -> str:
        text = f"{self.files:,}/{self.files_all:,} files, {self.embedded:,}/{self.chunks:,} chunks"
        text += f", {self.rate:.0f} chunks/s" if self.rate else ""
        text += f", {duration(self.eta)} left" if self.eta else ""
        return f"{text} - {self.doing}"


async def shown(engine: EnginePort, folders: Sequence[str] | None) -> None:
    """Show progress until cancelled."""
    if sys.stderr.isatty():
        await _bars(engine, folders)
    else:
        await _lines(engine, folders)


async def _lines(engine: EnginePort, folders: Sequence[str] | None) -> None:
    last, due = "", 0.0
    async for status in engine.watch():
        text = str(Point.of(status, folders))
        if text != last and anyio.current_time() >= due:
            console.note(text)
            last, due = text, anyio.current_time() + LINE_EVERY


async def _bars(engine: EnginePort, folders: Sequence[str] | None) -> None:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<7}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[more]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        files = progress.add_task("files", total=1, more="")
        chunks = progress.add_task("chunks", total=1, more="")
        async for status in engine.watch():
            point = Point.of(status, folders)
            rate = f"{point.rate:.0f}/s" if point.rate else ""
            left = f"{duration(point.eta)} left" if point.eta else ""
            progress.update(
                files, completed=point.files, total=max(point.files_all, 1), more=console.plain(point.doing)
            )
            progress.update(
                chunks, completed=point.embedded, total=max(point.chunks, 1), more=" ".join(filter(None, (rate, left)))
            )


# Fetching -----------------------------------------------------------------------------------------------------------
# How far a download is: a bar on a terminal, a line now and then elsewhere. Written to stderr.

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
