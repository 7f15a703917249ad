"""The parser pool's patience and the snapshot it gives of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from indexer.text.complaints import Complaint
from indexer.types import OneLine

State = Literal["stopped", "starting", "running", "degraded", "unavailable"]
Step = Literal["pool", "process per file", "plain text only"]


@dataclass(frozen=True, slots=True)
class PoolTiming:
    """How patient the pool is, seconds.

    Attributes:
        ready: A worker must say ``ready`` within this.
        attempts: How often a start is tried.
        pause: Time between attempts.
        idle: A worker without work ends after this.
        retry: At a lower step of the ladder, the pool is tried again after this.
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
    missing: Annotated[tuple[str, ...], "Packages that Python lacks: their formats are not indexed."]
    last_errors: tuple[Complaint, ...]  # of the processes and of starting them, oldest first
    warnings: tuple[Complaint, ...]
    detail: Annotated[OneLine, "What is wrong; empty when nothing is."]
    remedy: Annotated[OneLine, "What to do about it."]


def lacking(missing: tuple[str, ...]) -> str:
    """What is wrong with an interpreter that lacks libraries, one sentence; empty when it has all."""
    return f"the interpreter lacks {', '.join(missing)}" if missing else ""


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
