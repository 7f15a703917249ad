"""The status as lines of a terminal: pure, one moment and one width in, lines out."""

from __future__ import annotations

from rich.text import Text

from indexer.history import History
from indexer.status import FolderStatus, Status
from mcp_server.render import size
from mcp_server.terminal.canvas import TONES, Canvas
from mcp_server.terminal.slot import draw_slot
from mcp_server.terminal.strips import Glyphs, per_minute
from mcp_server.terminal.words import about, ago, cut, number, short_path

FAILURES = 8
"""Failed files named."""
CLIENTS = 4
"""Clients named."""


def picture(
    status: Status, history: History, now: float, width: int, *, home: str = "", plain: bool = False
) -> list[Text]:
    """Draw everything.

    Args:
        status: As last heard.
        history: The last hour.
        now: Seconds since the epoch; what counts down is reckoned from it.
        width: Columns.
        home: The user's home directory.
        plain: Use ASCII only.
    """
    drawn = Canvas(width, now, home, Glyphs(ascii=plain))
    _title(drawn, status)
    _folders(drawn, status)
    draw_slot(drawn, status.slot, history)
    _pace(drawn, status, history)
    _failures(drawn, status)
    _clients(drawn, status)
    _index(drawn, status)
    return drawn.lines


def _title(drawn: Canvas, status: Status) -> None:
    owner, services = status.owner, status.services
    state = owner.state.replace("_", " ")
    drawn.add(("folder-mcp ", "bold"), (owner.version, "bright_black"), right=(state, TONES[owner.state]))
    line = Text("  ")
    for title, serving in (("by word", services.keyword), ("by meaning", services.semantic)):
        line.append(("   " if line.cell_len > 2 else "") + title + " ", "bright_black")
        line.append(serving, TONES[serving])
    drawn.add(line)
    if owner.detail:
        drawn.add(("  " + cut(owner.detail, drawn.width - 2), "yellow"))


def _folders(drawn: Canvas, status: Status) -> None:
    drawn.head("Folders")
    if not status.folders:
        opening = status.owner.state in ("uninitialized", "initializing")
        drawn.add("  being opened" if opening else "  none yet: folder-mcp folders add FOLDER")
    for folder in sorted(status.folders, key=lambda one: (one.position is None, one.position or 0)):
        _folder(drawn, folder)


def _folder(drawn: Canvas, folder: FolderStatus) -> None:
    files, tone = folder.files, TONES[folder.state]
    ended = files.indexed + files.skipped + files.failed
    done = folder.state == "ready" and not files.pending and folder.coverage >= 1
    mark = ("✓ " if not drawn.glyphs.ascii else "* ") if done else "  "
    state = folder.state + (
        f"{drawn.glyphs.dot}{about(folder.eta_s)} left" if folder.eta_s and not drawn.narrow else ""
    )
    path = short_path(folder.path, drawn.home, max(12, drawn.width - len(state) - 4))
    drawn.add((mark, tone), (path, "" if done else "bold"), right=(state, tone))
    if done:
        drawn.facts(number(files.indexed, "file"), number(folder.chunks, "passage"), indent=4, style="bright_black")
    else:
        read = f"{ended:,} of {number(ended + files.pending, 'file')}"
        drawn.bar("by word", ended / (ended + files.pending) if ended + files.pending else 0.0, read, "blue")
        embedded = f"{folder.embedded:,} of {number(folder.chunks, 'passage')}"
        share = folder.coverage if folder.chunks else 0.0
        drawn.bar("by meaning", share, embedded, "cyan")
    for sentence in (folder.detail, *folder.advice):
        if sentence:
            drawn.add(("    " + cut(sentence, drawn.width - 4), "yellow"))


def _pace(drawn: Canvas, status: Status, history: History) -> None:
    """How much is embedded a minute, and how quickly searches are answered."""
    minutes = per_minute(history, min(60, drawn.width - 2))
    values = [float(minute.embedded) for minute in minutes]
    if any(values):
        rate = status.index.rate_chunks_per_s if any(folder.position == 0 for folder in status.folders) else 0.0
        drawn.head("Embedded per minute", right=(f"{rate:.1f} passages/s" if rate else "", "cyan"))
        drawn.add("  ", drawn.glyphs.sparkline(values, "cyan"))
        drawn.add((f"  {len(values)} min ago".ljust(len(values) - 1) + "now", "bright_black"))
    times = sorted(search.elapsed_ms for search in history.searches)
    if times:
        drawn.head("Searches in the last hour", right=number(len(times), "search", "searches"))
        slow = times[min(len(times) - 1, round(0.95 * len(times)))]
        last = history.searches[-1]
        drawn.facts(
            f"half within {times[len(times) // 2]:.0f} ms",
            f"95 of 100 within {slow:.0f} ms",
            f"last {last.elapsed_ms:.0f} ms, {ago(drawn.now - last.at)}",
        )


def _failures(drawn: Canvas, status: Status) -> None:
    failed = [(folder, one) for folder in status.folders for one in folder.problems if one.outcome == "failed"]
    total = sum(folder.files.failed for folder in status.folders)
    skipped = sum(folder.files.skipped for folder in status.folders)
    if not total and not skipped:
        return
    drawn.head("Not searchable", right=f"{total:,} failed, {skipped:,} skipped")
    for _, one in failed[:FAILURES]:
        drawn.add(("  " + short_path(one.path, drawn.home, drawn.width - 2), "red"))
        drawn.add(("    " + cut(one.reason, drawn.width - 4), "bright_black"))
    more = total - len(failed[:FAILURES])
    if more > 0 or skipped:
        drawn.add(("  all of them: folder-mcp status -v, or folder-mcp ui", "bright_black"))


def _clients(drawn: Canvas, status: Status) -> None:
    relays = status.owner.relays
    drawn.head("Clients", right=str(len(relays)) if relays else "none")
    for relay in relays[:CLIENTS]:
        named = ", ".join(short_path(folder, drawn.home, 30) for folder in relay.folders) or "all folders"
        drawn.facts(f"process {relay.pid}", f"came {ago(drawn.now - relay.since)}", named)
        if not relay.same_config:
            drawn.add(("    read another configuration, which is not in use", "yellow"))
    if len(relays) > CLIENTS:
        drawn.add((f"  and {len(relays) - CLIENTS} more", "bright_black"))


def _index(drawn: Canvas, status: Status) -> None:
    index, memory = status.index, status.slot.memory
    drawn.head("Index")
    drawn.facts(
        number(index.chunks, "passage"),
        size(index.disk_bytes) + " on disk" if index.disk_bytes is not None else "",
        f"tidied {ago(drawn.now - index.last_maintenance)}" if index.last_maintenance else "",
        f"{size(memory.rss)} of memory" if memory.rss else "",
    )
    if index.pool and (index.pool.workers or index.pool.detail):
        pool = f"documents: {number(index.pool.workers, 'parser')}, {index.pool.busy} at work"
        drawn.facts(pool, f"{index.pool.restarts} replaced" if index.pool.restarts else "", cut(index.pool.detail, 60))
    if index.last_error:
        drawn.add(("  " + cut(index.last_error, drawn.width - 2), "red"))
