"""The parser pool's patience and the snapshot it gives of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexer.text.complaints import Complaint

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
    """The pool as status and doctor show it.

    Attributes:
        state: ``stopped`` (nothing to do), ``starting``, ``running``, ``degraded`` (a process per file),
            ``unavailable`` (plain text only).
        step: The step of the ladder.
        workers: Living processes.
        busy: Of these, how many have a file.
        restarts: Processes that had to be replaced (crash, time, memory) since the pool opened.
        parsed: Files answered by processes since the pool opened, with text or with a reason.
        pids: Process ids of the living workers.
        interpreter: The Python they run on, empty when none was found.
        network: How they are kept from the network: ``namespace`` (no interface exists), ``blocked`` (Python code
            cannot connect), empty before the first start.
        missing: Document libraries that the interpreter does not have.
        last_errors: Newest errors of the processes and of starting them, oldest first.
        warnings: Newest warnings, oldest first.
        detail: What is wrong, one sentence; empty when nothing is.
        remedy: What to do about it, one sentence; empty when nothing is.
    """

    state: State
    step: Step
    workers: int
    busy: int
    restarts: int
    parsed: int
    pids: tuple[int, ...]
    interpreter: str
    network: str
    missing: tuple[str, ...]
    last_errors: tuple[Complaint, ...]
    warnings: tuple[Complaint, ...]
    detail: str
    remedy: str


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
