"""Bars, time lines and sparklines of characters: each a piece of one line, with and without colour readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from indexer.history import MINUTE, History, Minute
from indexer.model.snapshot import SlotState

STATES: Final[dict[SlotState, tuple[str, str, str]]] = {
    "idle": ("─", ".", "bright_black"),
    "ready": ("█", "#", "green"),
    "unloading": ("░", "u", "blue"),
    "loading": ("▒", "l", "yellow"),
    "error": ("╳", "x", "red"),
}
"""Character, character where only ASCII can be shown, and colour; of two states in one cell the later named wins."""
_RANKS = list(STATES)
_SPARKS = " ▁▂▃▄▅▆▇█"
_ASCII_SPARKS = " .:-=+*#@"


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Which characters the terminal can show."""

    ascii: bool = False

    def bar(self, share: float, width: int, style: str) -> Text:
        """A bar that is filled to ``share``, 0 to 1; full only when all is done, empty only when nothing is."""
        done = round(share * width)
        done = min(max(done, 1 if share > 0 else 0), width if share >= 1 else width - 1)
        full, rest = ("#", "-") if self.ascii else ("━", "─")
        return Text.assemble((full * done, style), (rest * (width - done), "bright_black"))

    def timeline(self, history: History, start: float, end: float, width: int) -> Text:
        """The slot's states from ``start`` to ``end``; blank where nothing is known."""
        states = states_between(history, start, end, width)
        line = Text()
        for state in states:
            line.append(*(self.of(state) if state else (" ", "")))
        return line

    def of(self, state: SlotState) -> tuple[str, str]:
        """Character and colour of a state."""
        rich, plain, style = STATES[state]
        return (plain if self.ascii else rich), style

    def sparkline(self, values: Sequence[float], style: str) -> Text:
        """One character a value; anything above zero is seen."""
        sparks = _ASCII_SPARKS if self.ascii else _SPARKS
        top = max(values, default=0.0)
        steps = [max(1, round(value / top * (len(sparks) - 1))) if value > 0 else 0 for value in values]
        return Text("".join(sparks[step] for step in steps), style)

    @property
    def dot(self) -> str:
        """What stands between two facts."""
        return " - " if self.ascii else " · "


def states_between(history: History, start: float, end: float, cells: int) -> list[SlotState | None]:
    """The state of the slot in each of ``cells`` equal parts of a time, None before anything is known.

    A short state wins over a long one it interrupts: a load of a second is seen in a cell of ten.
    """
    found: list[SlotState | None] = [None] * cells
    step = (end - start) / cells
    ends = (*(change.at for change in history.changes[1:]), max(end, history.at))
    for change, until in zip(history.changes, ends, strict=False):
        first = int((max(change.at, history.since) - start) / step)
        last = int((min(until, end) - start) / step - 1e-9)
        if until <= start or change.at >= end:
            continue
        for cell in range(max(0, first), min(cells - 1, last) + 1):
            before = found[cell]
            if before is None or _RANKS.index(change.state) > _RANKS.index(before):
                found[cell] = change.state
    return found


def per_minute(history: History, minutes: int) -> list[Minute]:
    """The last ``minutes`` minutes, oldest first, those without work filled in; the present one is the last."""
    present = history.at - history.at % MINUTE
    known = {minute.at: minute for minute in history.minutes}
    times = [present - MINUTE * back for back in range(minutes - 1, -1, -1)]
    return [known.get(at, Minute(at)) for at in times]
