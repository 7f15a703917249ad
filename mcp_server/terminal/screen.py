"""The live view: drawn again when the background process tells of a change, on a key, and each second that counts."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from indexer.broadcast import Notifier
from indexer.errors import FolderMcpError
from mcp_server.terminal.picture import counts, number, picture

if TYPE_CHECKING:
    from indexer.status_types import Status
    from mcp_server.engine_port import EnginePort

AGAIN = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach an owner that went away; the last goes on."""
PAGE = 10
"""Lines of a scroll by page up or down."""
KEYS = {b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1, b"\x1b[5~": -PAGE,
        b"\x1b[6~": PAGE, b" ": PAGE, b"g": -sys.maxsize, b"q": 0, b"Q": 0, b"\x03": 0, b"\x04": 0}  # fmt: skip
"""Lines to scroll by; 0 ends the view."""


@dataclass(slots=True)
class Seen:
    """What is on the screen; rich draws it.

    Attributes:
        status: As last heard, None before.
        lost: Why nothing is heard any more; empty while all is well.
        top: First line shown.
        quits: What ends the view, for the last line.
        home: The user's home directory.
        clock: Tells the time, seconds since the epoch.
        changed: Beats when the screen has to be drawn anew.
    """

    status: Status | None = None
    lost: str = ""
    top: int = 0
    quits: str = "q quits"
    home: str = field(default_factory=lambda: str(Path.home()))
    clock: Callable[[], float] = time.time
    changed: Notifier = field(default_factory=Notifier)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit, from ``top`` on, and one that says what the keys do."""
        width, room = options.max_width, max(1, console.height - 1)
        if self.status is None:
            what = Group(Text(self.lost or "looking for the background process ...", "yellow" if self.lost else ""))
        else:
            what = picture(self.status, self.clock(), width, self.home)
        if self.lost and self.status is not None:
            what = Group(Text("connection lost; this is what was last heard", "black on yellow"), what)
        lines = console.render_lines(what, options.update(height=None), pad=False)
        self.top = max(0, min(self.top, len(lines) - room))
        for line in lines[self.top : self.top + room]:
            yield from (*line, Segment.line())
        yield from [Segment.line()] * (room - len(lines))
        below = max(0, len(lines) - self.top - room)
        scroll = f"   arrows scroll, {number(below, 'more line') if below else 'end'}" if len(lines) > room else ""
        yield Text(self.quits + scroll, "bright_black", overflow="crop", no_wrap=True, end="")


async def show_live(engine: EnginePort, console: Console, *, keys: int | None = None) -> None:
    """Show the status until ``q`` is pressed or the task is cancelled; the terminal is as before then.

    Args:
        engine: Whose status; it may go away and come back.
        console: The terminal.
        keys: Descriptor of the terminal's keys, None when there are none.
    """
    seen = Seen()
    listen = single_keys(keys) if keys is not None else nullcontext(False)
    with listen as listening, Live(seen, console=console, screen=True, auto_refresh=False) as live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, engine, seen)
            if listening and keys is not None:
                tasks.start_soon(_obey, keys, seen, tasks.cancel_scope.cancel)
            else:
                seen.quits = "Ctrl-C quits"
            tasks.start_soon(_signals, seen, tasks.cancel_scope.cancel)
            await _draw(live, seen)


async def follow(engine: EnginePort, seen: Seen) -> None:
    """Keep ``seen`` up to date until cancelled, also through the end of one owner and the start of the next."""
    attempt = 0
    while True:
        try:
            async for status in engine.watch():
                seen.status, seen.lost, attempt = status, "", 0
                seen.changed.notify()
            return  # there is nothing more to come
        except FolderMcpError as error:
            seen.lost = str(error)
            seen.changed.notify()
            await anyio.sleep(AGAIN[min(attempt, len(AGAIN) - 1)])
            attempt += 1


@contextmanager
def single_keys(fd: int) -> Iterator[bool]:
    """Have keys arrive one by one, without echo, while the block runs; yields False where that cannot be had."""
    try:
        import termios  # noqa: PLC0415 - not on Windows
        import tty  # noqa: PLC0415

        before = termios.tcgetattr(fd)
    except (ImportError, OSError, termios.error):
        yield False
        return
    try:
        tty.setcbreak(fd)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def pressed(fd: int) -> AsyncIterator[int]:
    """Yield what the keys mean (``KEYS``) as they are pressed; ends with the terminal."""
    while True:
        await anyio.wait_readable(fd)
        try:
            data = os.read(fd, 64)
        except OSError:  # the terminal is gone
            return
        if not data:
            return
        for key in [data] if data in KEYS else [data[at : at + 1] for at in range(len(data))]:
            if key in KEYS:
                yield KEYS[key]
            elif key == b"\x1b":
                break  # the rest belongs to a key that means nothing here


async def _draw(live: Live, seen: Seen) -> None:
    while True:
        notifications, now = seen.changed.notifications, seen.clock()
        live.update(seen, refresh=True)
        ticking = seen.status is not None and not seen.lost and counts(seen.status, now)
        with anyio.move_on_after(1.0 - now % 1.0 if ticking else None):
            await seen.changed.after(notifications)


async def _obey(fd: int, seen: Seen, end: Callable[[], None]) -> None:
    """Do what keys ask for."""
    async for step in pressed(fd):
        if not step:
            break
        seen.top = max(0, seen.top + step)
        seen.changed.notify()
    end()


async def _signals(seen: Seen, end: Callable[[], None]) -> None:
    """Draw anew when the window changes; give the terminal back before a signal ends us."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP) as signals:
        async for came in signals:
            if came != signal.SIGWINCH:
                end()
            seen.changed.notify()
