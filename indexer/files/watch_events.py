"""What watching tells, and its timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths to look at again.

    Attributes:
        root: The folder.
        paths: Files or directories (each with all below it), there or gone; the root itself when anything may have
            changed. None lies below another.
    """

    root: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """A root is watched, at first or again.

    ``Changes`` of the whole root follow: what happened before is not known.
    """

    root: str


@dataclass(frozen=True, slots=True)
class WatchProblem:
    """A root is not watched, or not all of it.

    That part is named in ``Changes`` every ``Timing.poll`` seconds instead, until ``Watched`` says otherwise.

    Attributes:
        root: The folder.
        reason: Why, one sentence.
        remedy: What the user can do, one sentence.
    """

    root: str
    reason: str
    remedy: str


WatchEvent: TypeAlias = Changes | Watched | WatchProblem


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for what, seconds.

    Attributes:
        quiet: A path is named when it has not changed for this long,
        longest: or this long after its first change.
        step: How often the watcher's thread looks for events and for the order to stop.
        retry: Between looks for a root that is gone (a mount raises no event), and between attempts to watch again.
        poll: Between rescans of what cannot be watched.
        check: Without events, how often the root is compared with the one being watched (an unmount is silent).
    """

    quiet: float = 1.5
    longest: float = 10.0
    step: float = 0.2
    retry: float = 10.0
    poll: float = 300.0
    check: float = 30.0
