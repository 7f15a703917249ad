"""The parser pool as status shows it: its state, its time limits, the log of its workers."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Literal

from indexer.types import OneLine, Timestamp

State = Literal["stopped", "starting", "running", "degraded", "unavailable"]
Step = Literal["pool", "process per file", "plain text only"]


@dataclass(frozen=True, slots=True)
class PoolTiming:
    """Time limits of the pool, seconds.

    Attributes:
        ready: A worker must be ready within this.
        attempts: How often a start is tried; a number.
        pause: Time between attempts.
        idle: A worker without work is ended after this.
        retry: A degraded pool is tried again after this.
    """

    ready: float = 30.0
    attempts: int = 3
    pause: float = 15.0
    idle: float = 60.0
    retry: float = 300.0


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The processes that read documents."""

    state: Annotated[State, "stopped: nothing to do; degraded: a process per file; unavailable: plain text only."]
    step: Annotated[Step, "Step of the ladder."]
    workers: int
    busy: int
    restarts: Annotated[int, "Processes replaced after a crash, a hang or too much memory."]
    parsed: int  # files answered by processes since the pool opened, with text or with a reason
    pids: tuple[int, ...]
    interpreter: Annotated[str, "The Python they run on; empty when none was found."]
    # namespace: no interface exists; blocked: Python code cannot connect
    network: Annotated[str, "How they are kept from the network; empty before the first start."]
    refused: Annotated[tuple[str, ...], "What native code in them tried and was refused."]
    limits_missing: Annotated[tuple[str, ...], "Limits that are not in force, and why."]
    missing: Annotated[tuple[str, ...], "Packages that Python lacks: their formats are not indexed."]
    last_errors: tuple[Complaint, ...]  # of the processes and of starting them, oldest first
    warnings: tuple[Complaint, ...]
    detail: Annotated[OneLine, "What is wrong; empty when nothing is."]
    remedy: Annotated[OneLine, "What to do about it."]


def missing_text(missing: tuple[str, ...]) -> str:
    """What is wrong with an interpreter that lacks libraries, one sentence; empty when it has all."""
    return f"the interpreter lacks {', '.join(missing)}" if missing else ""


def failing_text(failing: tuple[str, ...]) -> str:
    """What is wrong with libraries that fail on a sound document, one sentence; empty when there are none."""
    return f"{', '.join(failing)} fails on a small sample" if failing else ""


def network_of(steps: tuple[str, ...]) -> str:
    """How a process with these limits is kept from the network."""
    return "namespace" if "network" in steps else "blocked"


def remedy(interpreter: str, missing: tuple[str, ...], step: Step, retry: float) -> str:
    """What to do about a pool in this state, one sentence; empty when nothing is wrong."""
    if not interpreter:
        return "correct the interpreter setting (PYTHON_PATH), or leave it out to use this Python"
    if missing:
        return f"install them: {interpreter} -m pip install {' '.join(missing)}"
    if step == "pool":
        return ""
    test = f"\"{interpreter} -c 'import xberg, pypdfium2'\""
    return f"run {test}: it must end without an error; the pool is tried again every {retry:.0f} s"


# Log of the workers -------------------------------------------------------------------------------------------------
# The last lines that worker processes wrote to stderr, each with a level, for status and doctor.

Level = Literal["error", "warning", "information"]

_ERROR = re.compile(
    r"\b(error|exception|traceback|panick?(ed)?|fatal|abort(ed)?|segmentation|killed|failed|cannot)\b|Error\b", re.I
)
_WARNING = re.compile(r"\b(warn(ing)?|deprecat\w*|could not)\b|Warning\b", re.I)
_KEPT = 100
_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a parser process, or starting one, said."""

    level: Level
    text: OneLine
    at: Timestamp
    pid: int  # 0 for the pool itself


class WorkerLog:
    """A ring of the last lines of all parser processes; opened and closed with the pool."""

    def __init__(self) -> None:
        self._kept: deque[Complaint] = deque(maxlen=_KEPT)

    def add(self, text: str, pid: int = 0, level: Level | None = None) -> None:
        """Keep a line, with the level that its words suggest unless one is given; blank lines are dropped."""
        line = text.strip()[:_LENGTH]
        if line:
            self._kept.append(Complaint(level or level_of(line), line, time.time(), pid))

    def last(self, level: Level | None = None, count: int = 10) -> tuple[Complaint, ...]:
        """The newest lines of a level (None: of all), oldest first."""
        found = [c for c in self._kept if level is None or c.level == level]
        return tuple(found[-count:])


def level_of(line: str) -> Level:
    """The level of a line by the words in it; ``warning:`` in front wins."""
    start = line[:12].lower()
    if start.startswith("warn"):
        return "warning"
    if _ERROR.search(line):
        return "error"
    return "warning" if _WARNING.search(line) else "information"
