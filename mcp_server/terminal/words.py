"""Numbers, times and paths as people read them in little room."""

from __future__ import annotations

import os

from mcp_server.untrusted import one_line

BRIEF = 60.0


def clock(seconds: float) -> str:
    """A length of time that counts: ``4:09``, ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def about(seconds: float) -> str:
    """A length of time that need not be exact: ``under a minute``, ``3 min``, ``2.5 h``."""
    if seconds < BRIEF:
        return "under a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ago(seconds: float) -> str:
    """How long ago: ``just now``, ``3 min ago``."""
    return "just now" if seconds < BRIEF else f"{about(seconds)} ago"


def number(count: int, one: str, many: str = "") -> str:
    """A count with its noun: ``1 file``, ``1,204 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share, rounded so that 100 % means all and 0 % nothing."""
    shown = round(share * 100)
    shown = min(shown, 99) if share < 1 else 100
    return f"{max(shown, 1) if share > 0 else 0} %"


def short_path(path: str, home: str, width: int) -> str:
    """A path on one line in ``width`` characters: below the home as ``~``, cut at its beginning."""
    shown = one_line(path)
    if home and (path == home or path.startswith(home + os.sep)):
        shown = one_line("~" + path[len(home) :])
    if len(shown) <= width:
        return shown
    tail = shown[-(width - 1) :]
    cut = tail.find(os.sep)
    return "…" + (tail[cut:] if 0 <= cut < len(tail) // 2 else tail)


def cut(text: str, width: int) -> str:
    """Text that may quote a file, on one line in ``width`` characters."""
    shown = one_line(text)
    return shown if len(shown) <= width else shown[: max(0, width - 1)].rstrip() + "…"
