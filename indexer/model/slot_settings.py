"""The slot's settings and limits: frozen data, defaults as specified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep one fault from becoming everybody's; seconds unless named otherwise.

    Attributes:
        stall: A load without progress for this long has failed.
        load: A load longer than this in all (the first import of the runtime not counted) has failed.
        runtime_import: The first import of a runtime.
        orphan: A load that outlived its limit by this long is wedged: only a restart of the process helps.
        idle_lease: A lease without a running job for this long is revoked.
        job: A single job (or unload) running for this long is wedged.
        shutdown: Closing the slot takes at most this long, whatever it is doing.
        waiting_tools: Tool calls that may wait at once; the next is told ``busy``.
    """

    stall: float = 30.0
    load: float = 120.0
    runtime_import: float = 120.0
    orphan: float = 120.0
    idle_lease: float = 30.0
    job: float = 300.0
    shutdown: float = 2.0
    waiting_tools: int = 64


def _nothing(reason: str) -> None:
    del reason


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """What a user or the owner decides about the slot; seconds.

    Attributes:
        keep_warm: How long a model stays for tool calls after the last one ended.
        starvation_cap: How long that may keep another model's indexing waiting; 0 = for ever.
        tool_wait: How long a tool call waits when it does not say.
        target_cpu: Aimed duration of a micro-batch on the CPU.
        target_gpu: Aimed duration of a micro-batch on an accelerator.
        linger: How long a model that indexed stays when nothing waits (the pause between two batches).
        allow_cpu_fallback: Load on the CPU what does not fit the accelerator's memory.
        limits: The bounds.
        on_wedged: Called once, on the loop, with the reason, when only a restart of the process helps.
    """

    keep_warm: float = 300.0
    starvation_cap: float = 600.0
    tool_wait: float = 20.0
    target_cpu: float = 1.0
    target_gpu: float = 0.25
    linger: float = 2.0
    allow_cpu_fallback: bool = True
    limits: Limits = field(default_factory=Limits)
    on_wedged: Callable[[str], None] = _nothing
