"""``status --watch``: one live table on a terminal, otherwise one line per change.

The table is drawn again when the background process reports a change, on a key, and each second while it shows a time
that runs. ``status_table`` is pure: one status, one moment and one width in, something that rich can draw out.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from indexer.broadcast import Notifier
from indexer.errors import FolderMcpError
from indexer.slot.slot_types import SlotStatus
from indexer.status_types import FolderStatus, Status
from mcp_server.cli import console as printer
from mcp_server.engine_port import EnginePort
from mcp_server.protocol.render import duration, size
from mcp_server.protocol.results import StatusResult
from mcp_server.protocol.untrusted import one_line

if sys.platform != "win32":
    import termios
    import tty

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach an owner that has ended; the last one is repeated."""
PAGE = 10
"""Lines that page up and page down scroll by."""
KEYS = {b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1, b"\x1b[5~": -PAGE,
        b"\x1b[6~": PAGE, b" ": PAGE, b"g": -sys.maxsize, b"q": 0, b"Q": 0, b"\x03": 0, b"\x04": 0}  # fmt: skip
"""Lines to scroll by; 0 ends the view."""


NARROW = 60
"""Columns below which progress is shown as percent only."""
WIDE = 100
"""Columns from which on bars are shown."""
FAILURES = 8
"""Failed files named."""
CLIENTS = 4
"""Clients named."""
MAX_SENTENCE = 300
"""Characters shown of a sentence; an error may quote a whole file."""
STYLES = {
    "serving": "green", "ready": "green", "embedding": "cyan", "reading": "cyan", "scanning": "cyan",
    "waiting": "yellow", "blocked": "yellow", "degraded": "yellow", "loading": "yellow", "initializing": "yellow",
    "uninitialized": "yellow", "unloading": "blue", "unavailable": "red", "error": "red",
    "stopping": "yellow", "read_only": "yellow", "idle": "bright_black",
}  # fmt: skip
JOBS = {"tool": "answering a search", "index": "indexing"}
StyledText = str | tuple[str, str]


async def watch(engine: EnginePort, *, as_json: bool) -> None:
    """Show every change until interrupted: the table on a terminal that can move its cursor, otherwise lines."""
    terminal = Console(highlight=False)
    if not as_json and terminal.is_terminal and not terminal.is_dumb_terminal:
        await show_live(engine, terminal, keys=sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None)
        return
    last = ""
    async for status in engine.watch():
        text = summary(status)
        if text == last:
            continue
        last = text
        if as_json:
            printer.json_line(StatusResult.of(status))
        else:
            printer.say(text)
            sys.stdout.flush()


async def show_live(engine: EnginePort, console: Console, *, keys: int | None = None) -> None:
    """Show the status until ``q`` is pressed or the task is cancelled; the terminal is then as before.

    Args:
        engine: Whose status is shown; its process may end and another take over.
        console: The terminal.
        keys: Descriptor that keys are read from, None when there are none.
    """
    view = View()
    mode = cbreak(keys) if keys is not None else nullcontext(False)
    with mode as readable, Live(view, console=console, screen=True, auto_refresh=False) as live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, engine, view)
            if readable and keys is not None:
                tasks.start_soon(_scroll_by_keys, keys, view, tasks.cancel_scope.cancel)
            else:
                view.quits = "Ctrl-C quits"
            tasks.start_soon(_signals, view, tasks.cancel_scope.cancel)
            await _redraw(live, view)


@dataclass(slots=True)
class View:
    """What is on the screen; rich draws it.

    Attributes:
        status: The last one received, None before the first.
        lost: Why no status is received any more; empty while connected.
        top: First line shown.
        quits: How to end the view, for the last line.
        home: The user's home directory.
        clock: Returns the time, seconds since the epoch.
        changed: Notified when the screen has to be drawn again.
    """

    status: Status | None = None
    lost: str = ""
    top: int = 0
    quits: str = "q quits"
    home: str = field(default_factory=lambda: str(Path.home()))
    clock: Callable[[], float] = time.time
    changed: Notifier = field(default_factory=Notifier)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit, from ``top`` on, and a last line that explains the keys."""
        width, height = options.max_width, max(1, console.height - 1)
        if self.status is None:
            content = Group(Text(self.lost or "looking for the background process ...", "yellow" if self.lost else ""))
        else:
            content = status_table(self.status, self.clock(), width, self.home)
        if self.lost and self.status is not None:
            content = Group(Text("connection lost; this is what was last heard", "black on yellow"), content)
        lines = console.render_lines(content, options.update(height=None), pad=False)
        self.top = max(0, min(self.top, len(lines) - height))
        for line in lines[self.top : self.top + height]:
            yield from (*line, Segment.line())
        yield from [Segment.line()] * (height - len(lines))
        below = max(0, len(lines) - self.top - height)
        scroll = f"   arrows scroll, {plural(below, 'more line') if below else 'end'}" if len(lines) > height else ""
        yield Text(self.quits + scroll, "bright_black", overflow="crop", no_wrap=True, end="")


async def follow(engine: EnginePort, view: View) -> None:
    """Keep ``view`` up to date until cancelled, also while one owner ends and the next starts."""
    attempt = 0
    while True:
        try:
            async for status in engine.watch():
                view.status, view.lost, attempt = status, "", 0
                view.changed.notify()
            return  # the engine has closed
        except FolderMcpError as error:
            view.lost = str(error)
            view.changed.notify()
            await anyio.sleep(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)])
            attempt += 1


@contextmanager
def cbreak(fd: int) -> Iterator[bool]:
    """Have keys arrive one by one, without echo, while the block runs (cbreak mode); yields False where that fails."""
    if sys.platform == "win32":
        yield False
        return
    try:
        before = termios.tcgetattr(fd)
    except (OSError, termios.error):
        yield False
        return
    try:
        tty.setcbreak(fd)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def key_presses(fd: int) -> AsyncIterator[int]:
    """Yield the value in ``KEYS`` of each key pressed; ends when the terminal is closed."""
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
                break  # the escape sequence of a key that is not in KEYS


async def _redraw(live: Live, view: View) -> None:
    """Draw on every change, and at each full second while a time is shown that runs."""
    while True:
        notifications, now = view.changed.notifications, view.clock()
        live.update(view, refresh=True)
        counting = view.status is not None and not view.lost and has_running_time(view.status, now)
        with anyio.move_on_after(1.0 - now % 1.0 if counting else None):
            await view.changed.after(notifications)


async def _scroll_by_keys(fd: int, view: View, end: Callable[[], None]) -> None:
    """Scroll as keys ask, until one of them quits."""
    async for step in key_presses(fd):
        if not step:
            break
        view.top = max(0, view.top + step)
        view.changed.notify()
    end()


async def _signals(view: View, end: Callable[[], None]) -> None:
    """Draw again when the window changes its size; restore the terminal before a signal ends the process."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP) as signals:
        async for received in signals:
            if received != signal.SIGWINCH:
                end()
            view.changed.notify()


# The table ----------------------------------------------------------------------------------------------------------


def status_table(status: Status, now: float, width: int, home: str = "") -> Group:
    """Return the whole table.

    Args:
        status: The snapshot.
        now: Seconds since the epoch; remaining times are counted from it.
        width: Columns of the terminal.
        home: The user's home directory, shown as ``~``.
    """
    head, foot = (_grid(rows) for rows in (_service_rows(status, now), _index_rows(status, now, home)))
    return Group(head, "", _folders(status, width, home), *_problems(status, home), "", foot)


def summary(status: Status) -> str:
    """Return one line for pipes and dumb terminals, which changes only when what it tells has changed."""
    slot = status.slot
    model = slot.model.name if slot.model else slot.requested
    parts = [status.owner.state.replace("_", " "), " ".join(filter(None, ("slot", slot.state, model, _stage(slot))))]
    for folder in status.folders:
        files = folder.files
        text = f"{folder.path} {folder.state}: {plural(files.indexed, 'file')}"
        text += f", {files.pending:,} to read" if files.pending else ""
        text += f", {files.failed:,} failed" if files.failed else ""
        text += f", {percent(folder.coverage)} embedded"
        text += f", {duration(folder.eta_s)} left" if folder.eta_s else ""
        parts.append(text)
    return one_line("; ".join(parts if status.folders else [*parts, "no folders"]))


def has_running_time(status: Status, now: float) -> bool:
    """Return whether the table shows a time that changes every second."""
    slot = status.slot
    warm = slot.warm_until is not None and slot.warm_until > now
    retry = any(error.next_retry_at and error.next_retry_at > now for error in slot.errors)
    return warm or retry or slot.holder is not None


def percent(share: float) -> str:
    """Return a share, rounded so that 100 % means all and 0 % nothing."""
    shown = min(round(share * 100), 99) if share < 1 else 100
    return f"{max(shown, 1) if share > 0 else 0} %"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 file``, ``1,204 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _grid(rows: Iterator[tuple[str, list[StyledText]]]) -> Table:
    """Return rows as a table: a title, and pieces of text with their styles."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, width=10)
    grid.add_column(overflow="fold")
    for title, parts in rows:
        grid.add_row(title, Text.assemble(*parts))
    return grid


def _service_rows(status: Status, now: float) -> Iterator[tuple[str, list[StyledText]]]:
    owner, index, services = status.owner, status.index, status.services
    yield "folder-mcp", [f"{owner.version}, ", _styled(owner.state)]
    if owner.detail:
        yield "", [(_sentence(owner.detail), "yellow")]
    yield "Search", ["keyword ", _styled(services.keyword), ", semantic ", _styled(services.semantic)]
    yield from _model_rows(status.slot, now)
    if index.rate_chunks_per_s and any(folder.position == 0 for folder in status.folders):
        yield "Speed", [(f"{index.rate_chunks_per_s:.1f} passages/s embedded", "cyan")]


def _index_rows(status: Status, now: float, home: str) -> Iterator[tuple[str, list[StyledText]]]:
    owner, index, memory = status.owner, status.index, status.slot.memory
    facts = [plural(index.chunks, "passage")]
    facts += [f"{size(index.disk_bytes)} on disk"] if index.disk_bytes is not None else []
    facts += [f"last compaction {_ago(now - index.last_maintenance)}"] if index.last_maintenance else []
    facts += [f"{size(memory.rss)} of memory"] if memory.rss else []
    yield "Index", [", ".join(facts)]
    if index.state not in ("ready", "opening"):
        yield "", [(_sentence(f"{index.state.replace('_', ' ')}; {index.remedy}".strip("; ")), "red")]
    if index.last_error:
        yield "", [(_sentence(index.last_error), "red")]
    if index.pool and (index.pool.workers or index.pool.detail):
        pool = index.pool
        busy = f"{plural(pool.workers, 'parser')}, {pool.busy} busy"
        busy += f", {pool.restarts} replaced" if pool.restarts else ""
        yield "Documents", [busy + (f"; {_sentence(pool.detail)}" if pool.detail else "")]
    for title, relay in zip(["Clients"] + [""] * CLIENTS, owner.relays[:CLIENTS], strict=False):
        searched = ", ".join(short_path(folder, home) for folder in relay.folders) or "all folders"
        other = ("; read another configuration, which is not in use", "yellow")
        text = f"process {relay.pid}, connected {_ago(now - relay.since)}, searches {searched}"
        yield title, [_sentence(text), *([] if relay.same_config else [other])]
    if len(owner.relays) > CLIENTS:
        yield "", [f"and {len(owner.relays) - CLIENTS} more"]


def _model_rows(slot: SlotStatus, now: float) -> Iterator[tuple[str, list[StyledText]]]:
    """Yield the model slot: its model and state, who uses it and who waits, how long it stays, what failed."""
    name = slot.model.name if slot.model else slot.requested
    where = f" ({slot.model.runtime} on {slot.model.device})" if slot.model and slot.state == "ready" else ""
    stage = _stage(slot)
    yield "Model", [_sentence(name + where) + ", " if name else "", _styled(slot.state), f" {stage}" if stage else ""]
    if slot.holder and slot.holder.kind in JOBS:
        yield "", [f"{JOBS[slot.holder.kind]} for {_clock(now - slot.holder.since)}"]
    waiting = [plural(slot.queue.tool, "search", "searches")] if slot.queue.tool else []
    waiting += [plural(slot.queue.index, "indexing job")] if slot.queue.index else []
    if waiting:
        yield "", [("waiting: " + ", ".join(waiting), "yellow")]
    if slot.state == "ready" and slot.warm_until and slot.warm_until > now:
        yield "", [(f"stays loaded for {_clock(slot.warm_until - now)}", "bright_black")]
    for error in slot.errors:
        yield "", [(_sentence(f"{error.name}: {error.message}"), "red")]
        retry = (error.next_retry_at or now) - now
        yield "", [(_sentence(error.hint) + (f" Next attempt in {_clock(retry)}." if retry > 0 else ""), "yellow")]


def _folders(status: Status, width: int, home: str) -> RenderableType:
    if not status.folders:
        opening = status.owner.state in ("uninitialized", "initializing")
        return Text("The index is being opened." if opening else "No folders yet: folder-mcp folders add FOLDER")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("Folder", "State", "Files", "Embedded", *([""] if width >= WIDE else [])):
        table.add_column(title, overflow="fold")
    for folder in sorted(status.folders, key=lambda one: (one.position is None, one.position or 0)):
        table.add_row(Text(short_path(folder.path, home)), *_progress(folder, width))
    return table


def _progress(folder: FolderStatus, width: int) -> Iterator[RenderableType]:
    """Yield the cells of a folder that follow its path."""
    files = folder.files
    done = files.indexed + files.skipped + files.failed
    read = done / (done + files.pending) if done + files.pending else float(folder.state == "ready")
    embedded = folder.coverage if folder.chunks else float(read >= 1)
    left = f"\n{duration(folder.eta_s)} left" if folder.eta_s else ""
    yield Text.assemble(_styled(folder.state), left)
    yield _of_total(done, done + files.pending, read, width) if read < 1 else f"{files.indexed:,}"
    yield _of_total(folder.embedded, folder.chunks, embedded, width) if embedded < 1 else f"{folder.chunks:,}"
    if width >= WIDE:
        yield ProgressBar(total=1.0, completed=embedded, width=16, complete_style="cyan", finished_style="green")


def _of_total(done: int, whole: int, share: float, width: int) -> str:
    return percent(share) if width < NARROW else f"{done:,}/{whole:,} {percent(share)}"


def _problems(status: Status, home: str) -> Iterator[Text]:
    """Yield why folders wait, then failed files by name and reason."""
    for folder in status.folders:
        for sentence in filter(None, (folder.detail, *folder.advice)):
            yield Text(f"{short_path(folder.path, home)}: {_sentence(sentence)}", "yellow", overflow="fold")
    failed = sum(folder.files.failed for folder in status.folders)
    skipped = sum(folder.files.skipped for folder in status.folders)
    if failed or skipped:
        more = (" (all of them: folder-mcp status -v, or folder-mcp ui)", "bright_black")
        yield Text.assemble("\n", (f"Not searchable: {failed:,} failed, {skipped:,} skipped", "bold"), more)
    named = (one for folder in status.folders for one in folder.problems if one.outcome == "failed")
    for _, one in zip(range(FAILURES), named, strict=False):
        parts = (short_path(one.path, home), "red"), f": {_sentence(one.reason)}"
        yield Text.assemble(*parts, overflow="fold")


def _styled(state: str) -> tuple[str, str]:
    return state.replace("_", " "), STYLES[state]


def _stage(slot: SlotStatus) -> str:
    return f"{slot.stage} {percent(slot.progress)}" if slot.stage and slot.state == "loading" else ""


def _clock(seconds: float) -> str:
    """Return a length of time that has_running_time: ``4:09``, ``1:02:03``."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 60 else f"{duration(seconds)} ago"


def short_path(path: str, home: str) -> str:
    """Return a path on one line, with ``~`` for the user's home."""
    below = home and (path == home or path.startswith(home + os.sep))
    return one_line("~" + path[len(home) :] if below else path)


def _sentence(text: str) -> str:
    """Return text that may quote a file on one line, cut after ``MAX_SENTENCE`` characters."""
    shown = one_line(text)
    return shown if len(shown) <= MAX_SENTENCE else shown[: MAX_SENTENCE - 3] + "..."
