"""The model slot as lines of a terminal."""

from __future__ import annotations

from rich.text import Text

from indexer.history import History
from indexer.model.snapshot import SlotStatus
from indexer.status import Status
from mcp_server.terminal.canvas import TONES, Canvas
from mcp_server.terminal.strips import STATES, states_between
from mcp_server.terminal.words import clock, cut, number

SPAN = 600.0
"""Seconds of the slot's time line."""
USES = {"tool": "a search", "index": "indexing"}


def draw_slot(drawn: Canvas, slot: SlotStatus, history: History) -> None:
    """Draw the slot: its model, who uses it and who waits, how long it stays, what failed, the last minutes."""
    drawn.head("Model", right=(slot.state, TONES[slot.state]))
    if slot.model:
        where = f"{slot.model.runtime} on {slot.model.device}" if slot.state == "ready" else ""
        drawn.facts(slot.model.name, where)
    elif slot.state == "idle":
        drawn.add(("  none in memory; it is loaded when somebody asks", "bright_black"))
    if slot.stage and slot.state == "loading":
        drawn.bar(cut(slot.stage, 10), slot.progress, "", TONES[slot.state])
    _use(drawn, slot)
    for error in slot.errors:
        drawn.add(("  " + cut(f"{error.name}: {error.message}", drawn.width - 2), "red"))
        retry = error.next_retry_at - drawn.now if error.next_retry_at else 0.0
        drawn.facts(error.hint, f"tried again in {clock(retry)}" if retry > 0 else "", style="yellow")
    _timeline(drawn, history)


def _use(drawn: Canvas, slot: SlotStatus) -> None:
    """Who uses the model and who waits for it; how long it stays."""
    if slot.holder and slot.holder.kind in USES:
        drawn.facts(f"used by {USES[slot.holder.kind]} for {clock(drawn.now - slot.holder.since)}")
    waiting = [number(slot.queue.tool, "search", "searches") if slot.queue.tool else ""]
    waiting.append(number(slot.queue.index, "indexing job") if slot.queue.index else "")
    if any(waiting):
        drawn.facts("waiting: " + " and ".join(filter(None, waiting)), style="yellow")
    left = (slot.warm_until or 0.0) - drawn.now
    if slot.state == "ready" and left > 0:
        since = slot.last_used_at or slot.loaded_at or drawn.now
        whole = max((slot.warm_until or 0.0) - since, left)
        drawn.add(
            "  warm for searches ",
            drawn.glyphs.bar(left / whole, 10, "green"),
            (f" {clock(left)} left", "bright_black"),
        )


def _timeline(drawn: Canvas, history: History) -> None:
    """The slot's states in the last minutes, what its characters mean, and its ends."""
    width = drawn.width - 2
    start = drawn.now - SPAN
    shown = set(states_between(history, start, drawn.now, width))
    drawn.add("  ", drawn.glyphs.timeline(history, start, drawn.now, width))
    legend = Text()
    for state in STATES:
        if state in shown:
            glyph, style = drawn.glyphs.of(state)
            legend.append(f"{glyph} ", style)
            legend.append(f"{state}  ", "bright_black")
    beginning, end = f"{SPAN / 60:.0f} min ago", "now"
    middle = (width - legend.cell_len) // 2
    if middle > len(beginning) + 1:
        axis = Text.assemble((beginning.ljust(middle), "bright_black"), legend)
        drawn.add("  ", axis, right=(end, "bright_black"))
    else:
        drawn.add(("  " + beginning, "bright_black"), right=(end, "bright_black"))
        drawn.add("  ", legend)


def counts(status: Status, now: float) -> bool:
    """Whether something in the picture counts seconds."""
    slot = status.slot
    warm = slot.warm_until is not None and slot.warm_until > now
    retry = any(error.next_retry_at and error.next_retry_at > now for error in slot.errors)
    return warm or retry or slot.holder is not None or slot.queue.oldest_wait_s > 0
