"""The live view: redrawn when the owner tells of a change, when a key is pressed, and each second that counts."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from indexer.errors import FolderMcpError
from indexer.history import History
from indexer.pulse import Pulse
from mcp_server.terminal.keys import pressed, single_keys
from mcp_server.terminal.picture import picture
from mcp_server.terminal.slot import counts

if TYPE_CHECKING:
    from indexer.status import Status
    from mcp_server.port import EnginePort

AGAIN = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach an owner that went away; the last goes on."""


@dataclass(slots=True)
class Seen:
    """What is on the screen.

    Attributes:
        status: As last heard, None before.
        lost: Why nothing is heard any more; empty while all is well.
        top: First line shown.
        lines: How many there are.
        changed: Beats when the screen has to be drawn anew.
    """

    status: Status | None = None
    history: History = field(default_factory=lambda: History(0.0, 0.0))
    lost: str = ""
    top: int = 0
    lines: int = 0
    changed: Pulse = field(default_factory=Pulse)


async def show_live(engine: EnginePort, console: Console, *, keys: int | None = None) -> None:
    """Show the status until ``q`` is pressed or the task is cancelled; the terminal is as before then.

    Args:
        engine: Whose status; it may go away and come back.
        console: The terminal.
        keys: Descriptor of the terminal's keys, None when there are none.
    """
    seen = Seen()
    listen = single_keys(keys) if keys is not None else nullcontext(False)
    with listen as listening, Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, engine, seen)
            if listening and keys is not None:
                tasks.start_soon(_obey, keys, seen, lambda: _page(console), tasks.cancel_scope.cancel)
            tasks.start_soon(_signals, seen, tasks.cancel_scope.cancel)
            await _draw(live, console, seen, quits=listening)


async def follow(engine: EnginePort, seen: Seen) -> None:
    """Keep ``seen`` up to date until cancelled, also through the end of one owner and the start of the next."""
    attempt = 0
    while True:
        try:
            async for status in engine.watch():
                seen.history = seen.history.joined(await engine.history(seen.history.at))
                seen.status, seen.lost, attempt = status, "", 0
                seen.changed.beat()
            return  # there is nothing more to come
        except FolderMcpError as error:
            seen.lost = str(error)
            seen.changed.beat()
            await anyio.sleep(AGAIN[min(attempt, len(AGAIN) - 1)])
            attempt += 1


def frame(seen: Seen, now: float, width: int, height: int, *, home: str, plain: bool, quits: bool) -> list[Text]:
    """The lines of one screen: what fits, from ``seen.top`` on, above a line that says what the keys do."""
    if seen.status is None:
        lines = [Text(seen.lost or "looking for the background process ...", "yellow" if seen.lost else "")]
    else:
        lines = picture(seen.status, seen.history, now, width, home=home, plain=plain)
        if seen.lost:
            lines[:0] = [Text("connection lost; shown is what was last heard", "black on yellow"), Text()]
    room = max(1, height - 1)
    seen.lines = len(lines)
    seen.top = max(0, min(seen.top, len(lines) - room))
    shown = lines[seen.top : seen.top + room]
    shown += [Text()] * (room - len(shown))
    return [*shown, _foot(seen, room, quits=quits)]


def _foot(seen: Seen, room: int, *, quits: bool) -> Text:
    words = "q quits" if quits else "Ctrl-C quits"
    if seen.lines > room:
        below = seen.lines - seen.top - room
        words += f"   arrows scroll, {below} more lines" if below else "   arrows scroll, end"
    return Text(words, "bright_black", overflow="crop", no_wrap=True)


async def _draw(live: Live, console: Console, seen: Seen, *, quits: bool) -> None:
    home = str(Path.home())
    while True:
        beats, now = seen.changed.beats, time.time()
        width, height = console.size
        lines = frame(seen, now, width, height, home=home, plain=console.options.ascii_only, quits=quits)
        live.update(Group(*lines), refresh=True)
        ticking = seen.status is not None and not seen.lost and counts(seen.status, now)
        with anyio.move_on_after(1.0 - now % 1.0 if ticking else None):
            await seen.changed.after(beats)


async def _obey(fd: int, seen: Seen, page: Callable[[], int], end: Callable[[], None]) -> None:
    """Do what keys ask for."""
    async for key in pressed(fd):
        if key == "quit":
            break
        steps = {"up": -1, "down": 1, "page up": -page(), "page down": page(), "home": -seen.lines}
        seen.top = max(0, seen.top + steps[key])
        seen.changed.beat()
    end()


def _page(console: Console) -> int:
    return max(1, console.size.height - 2)


async def _signals(seen: Seen, end: Callable[[], None]) -> None:
    """Draw anew when the window changes; give the terminal back before a signal ends us."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGWINCH:
                end()
            seen.changed.beat()
