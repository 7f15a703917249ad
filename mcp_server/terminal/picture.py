"""The status as one table of a terminal: pure, one moment and one width in, something rich can draw out."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from indexer.slot.slot_types import SlotStatus
from indexer.status_types import FolderStatus, Status
from mcp_server.protocol.render import duration, size
from mcp_server.protocol.untrusted import one_line

NARROW = 60
"""Columns below which progress is shown as percent only."""
WIDE = 100
"""Columns from which on there is room for bars."""
FAILURES = 8
"""Failed files named."""
CLIENTS = 4
"""Clients named."""
LONGEST = 300
"""Characters shown of a sentence; an error may quote a whole file."""
TONES = {
    "serving": "green", "ready": "green", "embedding": "cyan", "reading": "cyan", "scanning": "cyan",
    "waiting": "yellow", "blocked": "yellow", "degraded": "yellow", "loading": "yellow", "initializing": "yellow",
    "uninitialized": "yellow", "unloading": "blue", "unavailable": "red", "error": "red",
    "stopping": "yellow", "read_only": "yellow", "idle": "bright_black",
}  # fmt: skip
USES = {"tool": "answering a search", "index": "indexing"}
Part = str | tuple[str, str]


def picture(status: Status, now: float, width: int, home: str = "") -> Group:
    """Draw everything.

    Args:
        status: The snapshot.
        now: Seconds since the epoch; countdowns start from it.
        width: Columns of the terminal.
        home: The user's home directory, shown as ``~``.
    """
    head, foot = (_grid(rows) for rows in (_head(status, now), _foot(status, now, home)))
    return Group(head, "", _folders(status, width, home), *_problems(status, home), "", foot)


def summary(status: Status) -> str:
    """Return what matters, in one line that changes only when something did; for pipes and dumb terminals."""
    slot = status.slot
    model = slot.model.name if slot.model else slot.requested
    parts = [status.owner.state.replace("_", " "), " ".join(filter(None, ("slot", slot.state, model, _stage(slot))))]
    for folder in status.folders:
        files = folder.files
        text = f"{folder.path} {folder.state}: {number(files.indexed, 'file')}"
        text += f", {files.pending:,} to read" if files.pending else ""
        text += f", {files.failed:,} failed" if files.failed else ""
        text += f", {percent(folder.coverage)} embedded"
        text += f", {duration(folder.eta_s)} left" if folder.eta_s else ""
        parts.append(text)
    return one_line("; ".join(parts if status.folders else [*parts, "no folders"]))


def counts(status: Status, now: float) -> bool:
    """Whether the picture shows a time that runs, in seconds."""
    slot = status.slot
    warm = slot.warm_until is not None and slot.warm_until > now
    retry = any(error.next_retry_at and error.next_retry_at > now for error in slot.errors)
    return warm or retry or slot.holder is not None


def percent(share: float) -> str:
    """Return a share, rounded so that 100 % means all and 0 % nothing."""
    shown = min(round(share * 100), 99) if share < 1 else 100
    return f"{max(shown, 1) if share > 0 else 0} %"


def number(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 file``, ``1,204 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _grid(rows: Iterator[tuple[str, list[Part]]]) -> Table:
    """Return rows as a table: a title, and pieces of text with their style."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, width=10)
    grid.add_column(overflow="fold")
    for title, parts in rows:
        grid.add_row(title, Text.assemble(*parts))
    return grid


def _head(status: Status, now: float) -> Iterator[tuple[str, list[Part]]]:
    owner, index, services = status.owner, status.index, status.services
    yield "folder-mcp", [f"{owner.version}, ", _toned(owner.state)]
    if owner.detail:
        yield "", [(_sentence(owner.detail), "yellow")]
    yield "Search", ["keyword ", _toned(services.keyword), ", semantic ", _toned(services.semantic)]
    yield from _slot(status.slot, now)
    if index.rate_chunks_per_s and any(folder.position == 0 for folder in status.folders):
        yield "Speed", [(f"{index.rate_chunks_per_s:.1f} passages/s embedded", "cyan")]


def _foot(status: Status, now: float, home: str) -> Iterator[tuple[str, list[Part]]]:
    owner, index, memory = status.owner, status.index, status.slot.memory
    facts = [number(index.chunks, "passage")]
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
        busy = f"{number(pool.workers, 'parser')}, {pool.busy} busy"
        busy += f", {pool.restarts} replaced" if pool.restarts else ""
        yield "Documents", [busy + (f"; {_sentence(pool.detail)}" if pool.detail else "")]
    for title, relay in zip(["Clients"] + [""] * CLIENTS, owner.relays[:CLIENTS], strict=False):
        searched = ", ".join(short_path(folder, home) for folder in relay.folders) or "all folders"
        other = ("; read another configuration, which is not in use", "yellow")
        text = f"process {relay.pid}, connected {_ago(now - relay.since)}, searches {searched}"
        yield title, [_sentence(text), *([] if relay.same_config else [other])]
    if len(owner.relays) > CLIENTS:
        yield "", [f"and {len(owner.relays) - CLIENTS} more"]


def _slot(slot: SlotStatus, now: float) -> Iterator[tuple[str, list[Part]]]:
    """The model slot: its model and state, who uses it and who waits, how long it stays, what failed."""
    name = slot.model.name if slot.model else slot.requested
    where = f" ({slot.model.runtime} on {slot.model.device})" if slot.model and slot.state == "ready" else ""
    stage = _stage(slot)
    yield "Model", [_sentence(name + where) + ", " if name else "", _toned(slot.state), f" {stage}" if stage else ""]
    if slot.holder and slot.holder.kind in USES:
        yield "", [f"{USES[slot.holder.kind]} for {_clock(now - slot.holder.since)}"]
    waiting = [number(slot.queue.tool, "search", "searches")] if slot.queue.tool else []
    waiting += [number(slot.queue.index, "indexing job")] if slot.queue.index else []
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
    """Yield the cells of a folder behind its path."""
    files = folder.files
    ended = files.indexed + files.skipped + files.failed
    read = ended / (ended + files.pending) if ended + files.pending else float(folder.state == "ready")
    embedded = folder.coverage if folder.chunks else float(read >= 1)
    left = f"\n{duration(folder.eta_s)} left" if folder.eta_s else ""
    yield Text.assemble(_toned(folder.state), left)
    yield _amount(ended, ended + files.pending, read, width) if read < 1 else f"{files.indexed:,}"
    yield _amount(folder.embedded, folder.chunks, embedded, width) if embedded < 1 else f"{folder.chunks:,}"
    if width >= WIDE:
        yield ProgressBar(total=1.0, completed=embedded, width=16, complete_style="cyan", finished_style="green")


def _amount(done: int, whole: int, share: float, width: int) -> str:
    return percent(share) if width < NARROW else f"{done:,}/{whole:,} {percent(share)}"


def _problems(status: Status, home: str) -> Iterator[Text]:
    """What keeps folders waiting, then failed files by name and reason."""
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


def _toned(state: str) -> tuple[str, str]:
    return state.replace("_", " "), TONES[state]


def _stage(slot: SlotStatus) -> str:
    return f"{slot.stage} {percent(slot.progress)}" if slot.stage and slot.state == "loading" else ""


def _clock(seconds: float) -> str:
    """Return a length of time that counts: ``4:09``, ``1:02:03``."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 60 else f"{duration(seconds)} ago"


def short_path(path: str, home: str) -> str:
    """Return a path on one line, below the user's home as ``~``."""
    below = home and (path == home or path.startswith(home + os.sep))
    return one_line("~" + path[len(home) :] if below else path)


def _sentence(text: str) -> str:
    """Return text that may quote a file, on one line of a bearable length."""
    shown = one_line(text)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."
