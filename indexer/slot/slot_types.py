"""Settings and status of the slot: frozen data.

``SlotStatus`` is published, like ``indexer.status_types``: a snapshot numbered by ``epoch``. Units of durations are
in the names; memory is bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from indexer.types import OneLine, Timestamp

# Settings -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that keep one fault from blocking all callers; seconds unless named otherwise.

    Attributes:
        stall: A load without progress for this long has failed.
        load: A load longer than this in all (the first import of the runtime not counted) has failed.
        runtime_import: The first import of a runtime.
        orphan: A load that has exceeded its limit by this long is wedged: only a restart of the process helps.
        idle_lease: A lease without a running job for this long is revoked.
        job: A single job (or unload) running for this long is wedged.
        shutdown: Closing the slot takes at most this long, whatever it is doing.
        waiting_tools: Tool calls that may wait at once; the next is refused with ``busy``.
    """

    stall: float = 30.0
    load: float = 120.0
    runtime_import: float = 120.0
    orphan: float = 120.0
    idle_lease: float = 30.0
    job: float = 300.0
    shutdown: float = 2.0
    waiting_tools: int = 64


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """The slot's settings; seconds.

    Attributes:
        keep_warm: How long a model stays loaded for tool calls after the last one ended.
        starvation_cap: How long that may keep another model's indexing waiting; 0 = for ever.
        tool_wait: How long a tool call waits when it names no limit.
        target_cpu: Target duration of a micro-batch on the CPU.
        target_gpu: Target duration of a micro-batch on an accelerator.
        linger: How long a model that indexed stays when nothing waits (the pause between two batches).
        allow_cpu_fallback: Load on the CPU what does not fit the accelerator's memory.
        limits: Time limits.
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
    on_wedged: Callable[[str], None] = lambda reason: None


# Status -------------------------------------------------------------------------------------------------------------

SlotState = Literal["idle", "loading", "ready", "unloading", "error"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model in the slot, or on its way in or out."""

    name: str
    key: str
    dim: Annotated[int, "Numbers in a vector."]
    runtime: str
    device: str
    dtype: str
    kind: Annotated[
        Literal["embedder", "reranker"], "embedder: makes vectors; reranker: orders the best hits anew (dim is 0)."
    ] = "embedder"


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """Who uses the model now."""

    kind: Literal["tool", "index", "unload", "load"]
    since: Timestamp


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Who waits for the model."""

    tool: Annotated[int, "Waiting searches."] = 0
    index: Annotated[int, "Waiting indexing jobs."] = 0
    oldest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Memory of the process, bytes; null where the platform does not tell."""

    rss: int | None = None
    rss_anon: int | None = None
    # Anonymous memory after the first import of a runtime, before any model: only the process's end gives it back.
    floor_after_import: int | None = None
    device_allocated: int | None = None
    device_reserved: int | None = None
    before_unload: int | None = None  # anonymous memory around the last unload
    after_unload: int | None = None
    leaked: bool = False  # the last unloaded model was still referenced


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """The accelerator; unknown (null) until a model was loaded."""

    available: bool | None = None
    kind: str = ""
    name: str = ""
    total: int | None = None
    free: int | None = None
    why_not: OneLine = ""


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """The last failure of one model."""

    key: str
    name: str
    code: str
    message: OneLine
    hint: OneLine
    at: Timestamp
    attempt: int
    max_attempts: int
    next_retry_at: Timestamp | None
    retryable: bool


@dataclass(frozen=True, slots=True)
class OrphanStatus:
    """A load that outlived its limit."""

    key: str
    since: Timestamp


@dataclass(frozen=True, slots=True)
class Counters:
    """What the slot did since the process started."""

    loads: int = 0
    load_failures: int = 0
    unloads: int = 0
    swaps: int = 0
    preemptions: int = 0
    cancelled: int = 0
    revoked: int = 0
    starvation_cap_hits: int = 0
    batches_halved: int = 0


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """The one place a model can be."""

    state: SlotState = "idle"
    epoch: Annotated[int, "Grows with every change of state."] = 0
    model: ModelStatus | None = None
    requested: Annotated[str, "Model somebody waits for; empty if none."] = ""
    since: Annotated[Timestamp | None, "When the present state began."] = None  # None before the slot is open
    loaded_at: Timestamp | None = None
    last_used_at: Timestamp | None = None
    warm_until: Annotated[Timestamp | None, "Until when the model stays loaded for searches."] = None
    holder: HolderStatus | None = None
    queue: QueueStatus = field(default_factory=QueueStatus)
    stage: Annotated[str, "While loading: runtime, files, tokenizer, weights, self-test."] = ""
    progress: Annotated[float, "While loading: 0 to 1."] = 0.0
    memory: MemoryStatus = field(default_factory=MemoryStatus)
    gpu: GpuStatus = field(default_factory=GpuStatus)
    last_error: ErrorStatus | None = None
    errors: tuple[ErrorStatus, ...] = ()  # the last failure of each model that has one
    orphan: OrphanStatus | None = None
    # Keys; tried again at their time, after a change of the configuration, or by hand.
    breaker: Annotated[tuple[str, ...], "Models that are not tried again for now."] = ()
    counters: Counters = field(default_factory=Counters)
    index_blocked_since: Timestamp | None = None  # indexing with another model waits for the warm window
    micro_batch_s: float | None = None
