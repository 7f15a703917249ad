"""The structured result of ``status``: the engine's snapshot with times as ISO 8601."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from indexer.model.snapshot import SlotState
from indexer.status import Serving, Status
from mcp_server.folder_schema import FolderRecord, Line, PoolRecord
from mcp_server.schemas import Path, Record, Time
from mcp_server.untrusted import one_line


class ModelRecord(Record):
    """The model in the slot, or on its way in or out."""

    name: str
    key: str
    dim: int = Field(description="Numbers in a vector.")
    runtime: str
    device: str
    dtype: str
    kind: Literal["embedder", "reranker"] = Field(
        default="embedder", description="embedder: makes vectors; reranker: orders the best hits anew (dim is 0)."
    )


class HolderRecord(Record):
    """Who uses the model now."""

    kind: Literal["tool", "index", "unload", "load"]
    since: Time


class QueueRecord(Record):
    """Who waits for the model."""

    tool: int = Field(description="Waiting searches.")
    index: int = Field(description="Waiting indexing jobs.")
    oldest_wait_s: float


class MemoryRecord(Record):
    """Memory of the process, bytes; null where the platform does not tell."""

    rss: int | None
    rss_anon: int | None
    floor_after_import: int | None
    device_allocated: int | None
    device_reserved: int | None
    before_unload: int | None
    after_unload: int | None
    leaked: bool


class GpuRecord(Record):
    """The accelerator; unknown (null) until a model was loaded."""

    available: bool | None
    kind: str
    name: str
    total: int | None
    free: int | None
    why_not: Line


class ErrorRecord(Record):
    """The last failure of one model."""

    key: str
    name: str
    code: str
    message: Line
    hint: Line
    at: Time
    attempt: int
    max_attempts: int
    next_retry_at: Time | None
    retryable: bool


class OrphanRecord(Record):
    """A load that outlived its limit."""

    key: str
    since: Time


class CountersRecord(Record):
    """What the slot did since the process started."""

    loads: int
    load_failures: int
    unloads: int
    swaps: int
    preemptions: int
    cancelled: int
    revoked: int
    starvation_cap_hits: int
    batches_halved: int


class SlotRecord(Record):
    """The one place a model can be."""

    state: SlotState
    epoch: int = Field(description="Grows with every change of state.")
    model: ModelRecord | None
    requested: str = Field(description="Model somebody waits for; empty if none.")
    since: Annotated[Time | None, BeforeValidator(lambda at: at or None)] = Field(
        description="When the present state began."
    )
    loaded_at: Time | None
    last_used_at: Time | None
    warm_until: Time | None = Field(description="Until when the model stays loaded for searches.")
    holder: HolderRecord | None
    queue: QueueRecord
    stage: str = Field(description="While loading: runtime, files, tokenizer, weights, self-test.")
    progress: float = Field(description="While loading: 0 to 1.")
    memory: MemoryRecord
    gpu: GpuRecord
    last_error: ErrorRecord | None
    errors: list[ErrorRecord]
    orphan: OrphanRecord | None
    breaker: list[str] = Field(description="Models that are not tried again for now.")
    counters: CountersRecord
    index_blocked_since: Time | None
    micro_batch_s: float | None


class RelayRecord(Record):
    """One client of the owner."""

    pid: int
    version: str
    since: Time
    folders: list[Path] = Field(description="Folders it named; it searches these by default.")
    same_config: bool = Field(description="Whether it read the same configuration as the owner, whose one counts.")


class OwnerRecord(Record):
    """The process that holds the index and the model."""

    pid: int
    version: str
    state: Literal["uninitialized", "initializing", "serving", "read_only", "stopping"]
    detail: Line
    clients: int
    since: Time
    data_dir: Path
    relays: list[RelayRecord] = Field(default=[], description="Who is connected; empty where a process serves one.")


class HalvesRecord(Record):
    """The two halves of search."""

    keyword: Serving
    semantic: Serving


class IndexRecord(Record):
    """The index as a whole."""

    chunks: int
    embedded: int
    disk_bytes: int | None
    rate_chunks_per_s: float
    last_maintenance: Time | None
    last_error: Line
    parser: str = Field(description="State of the document parsers in one word.")
    pool: PoolRecord | None = Field(default=None, description="The document parsers; null before the index is open.")
    state: str = Field(
        default="ready",
        description="opening, ready, repairing, rebuilding, or why it cannot be written: disk_full, read_only, ...",
    )
    remedy: Line = Field(default="", description="What to do about the state; empty when nothing.")
    notices: list[Line] = Field(default=[], description="What was mended or set aside, and what speaks for a move.")


class WorkRecord(Record):
    """What was done since the process started."""

    files_walked: int
    files_read: int
    chunks_written: int
    chunks_embedded: int
    vectors_reused: int


class AvailabilityRecord(Record):
    """A model that the configuration or a folder names."""

    name: str
    local: bool = Field(description="Whether it can be loaded from this machine.")
    size: int | None = Field(description="Bytes of its files here, or of what a pull would fetch.")
    runtime: str = Field(description="What would load it: onnx or torch; empty when it is not here.")
    reason: Line = Field(description="Why it cannot be loaded (its folders are searched by word) or only by torch.")
    remedy: Line


class StatusResult(Record):
    """Everything, as of ``at``."""

    at: Time
    services: HalvesRecord
    folders: list[FolderRecord]
    slot: SlotRecord
    index: IndexRecord
    owner: OwnerRecord
    work: WorkRecord
    models: list[AvailabilityRecord] = Field(
        default=[], description="The default model and those that folders name; empty until looked for."
    )
    notices: list[str] = Field(default=[], description="What the reader should know and do.")

    @classmethod
    def of(cls, status: Status, notices: tuple[str, ...] = ()) -> StatusResult:
        """Make the result of one snapshot, with sentences of the caller's own."""
        return cls.model_validate(status).model_copy(update={"notices": [one_line(notice) for notice in notices]})
