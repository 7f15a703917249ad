"""Lines of a terminal, drawn one after the other and never longer than it is wide."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.text import Text

from mcp_server.terminal.strips import Glyphs
from mcp_server.terminal.words import percent

NARROW = 60
"""Columns below which words go before bars do."""
TONES = {
    "serving": "green", "ready": "green", "embedding": "cyan", "reading": "cyan", "scanning": "cyan",
    "waiting": "yellow", "blocked": "yellow", "degraded": "yellow", "loading": "yellow", "initializing": "yellow",
    "uninitialized": "yellow", "unloading": "blue", "unavailable": "red", "error": "red",
    "stopping": "yellow", "read_only": "yellow", "idle": "bright_black",
}  # fmt: skip


@dataclass(slots=True)
class Canvas:
    """Lines of a terminal being drawn.

    Attributes:
        width: Columns; no line is longer.
        now: Seconds since the epoch.
        home: The user's home directory, shown as ``~``.
        lines: What has been drawn.
    """

    width: int
    now: float
    home: str = ""
    glyphs: Glyphs = field(default_factory=Glyphs)
    lines: list[Text] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        """Whether words have to go."""
        return self.width < NARROW

    def add(self, *parts: str | tuple[str, str] | Text, right: str | tuple[str, str] = "") -> None:
        """Add a line, cut to the width; ``right`` stands at its end if there is room."""
        line = Text.assemble(*parts)
        tail = Text.assemble(right)
        room = self.width - tail.cell_len - 1
        if tail.cell_len and line.cell_len < room:
            line.append(" " * (self.width - tail.cell_len - line.cell_len))
            line.append_text(tail)
        line.truncate(self.width, overflow="ellipsis" if not self.glyphs.ascii else "crop")
        self.lines.append(line)

    def head(self, title: str, right: str | tuple[str, str] = "") -> None:
        """Begin a part."""
        self.lines.append(Text())
        self.add((title, "bold"), right=right)

    def facts(self, *facts: str, indent: int = 2, style: str = "") -> None:
        """Add facts, as many in a line as fit."""
        line = ""
        for fact in filter(None, facts):
            joined = line + self.glyphs.dot + fact if line else " " * indent + fact
            if line and len(joined) > self.width:
                self.add((line, style))
                joined = " " * indent + fact
            line = joined
        if line:
            self.add((line, style))

    def bar(self, title: str, share: float, amount: str, style: str) -> None:
        """A bar with its title and amount; on a narrow terminal the amount has a line of its own."""
        width = 12 if self.narrow else max(12, min(40, self.width - 58))
        parts = (f"    {title:<11}", self.glyphs.bar(share, width, style), f" {percent(share):>5}")
        if self.narrow:
            self.add(*parts)
            self.add((" " * 15 + amount, "bright_black"))
        else:
            self.add(*parts, ("  " + amount, "bright_black"))
