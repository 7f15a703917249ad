"""What the slot shows of itself: immutable, lock-free to read, numbered by ``epoch``.

Times are seconds since the epoch of the wall clock; durations and the unit are in the names; memory is bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SlotState = Literal["idle", "loading", "ready", "unloading", "error"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model in the slot (or on its way in or out)."""

    name: str
    key: str
    dim: int
    runtime: str
    device: str
    dtype: str
    kind: Literal["embedder", "reranker"] = "embedder"


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """Who holds the slot."""

    kind: Literal["tool", "index", "unload", "load"]
    since: float


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Who waits for the slot."""

    tool: int = 0
    index: int = 0
    oldest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Memory of this process. ``None`` where the platform does not tell.

    Attributes:
        floor_after_import: Anonymous memory after the first runtime import, before any model: only the process's
            end gives it back.
        before_unload: Anonymous memory before the last unload.
        after_unload: Anonymous memory after it.
        leaked: The last unloaded model was still referenced.
    """

    rss: int | None = None
    rss_anon: int | None = None
    floor_after_import: int | None = None
    device_allocated: int | None = None
    device_reserved: int | None = None
    before_unload: int | None = None
    after_unload: int | None = None
    leaked: bool = False


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """The accelerator, as known without importing torch until a model was loaded."""

    available: bool | None = None
    kind: str = ""
    name: str = ""
    total: int | None = None
    free: int | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """The last failure of one model: strings and numbers only, never an exception object."""

    key: str
    name: str
    code: str
    message: str
    hint: str
    at: float
    attempt: int
    max_attempts: int
    next_retry_at: float | None
    retryable: bool


@dataclass(frozen=True, slots=True)
class OrphanStatus:
    """A load that outlived its limit and still holds the slot."""

    key: str
    since: float


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the process started."""

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
    """The slot.

    Attributes:
        epoch: Increases with every change of state.
        requested: Name of the model somebody waits for, or empty.
        since: When the present state began.
        warm_until: Until when the model stays for tool calls, or None.
        stage: While loading: ``runtime``, ``files``, ``tokenizer``, ``weights``, ``self-test``.
        progress: While loading: 0..1.
        errors: The last failure of each model that has one.
        breaker: Keys that are not tried again until a time, a configuration change or a manual retry.
        index_blocked_since: Since when indexing of another model waits for the warm window, or None.
    """

    state: SlotState = "idle"
    epoch: int = 0
    model: ModelStatus | None = None
    requested: str = ""
    since: float = 0.0
    loaded_at: float | None = None
    last_used_at: float | None = None
    warm_until: float | None = None
    holder: HolderStatus | None = None
    queue: QueueStatus = field(default_factory=QueueStatus)
    stage: str = ""
    progress: float = 0.0
    memory: MemoryStatus = field(default_factory=MemoryStatus)
    gpu: GpuStatus = field(default_factory=GpuStatus)
    last_error: ErrorStatus | None = None
    errors: tuple[ErrorStatus, ...] = ()
    orphan: OrphanStatus | None = None
    breaker: tuple[str, ...] = ()
    counters: Counters = field(default_factory=Counters)
    index_blocked_since: float | None = None
    micro_batch_s: float | None = None
