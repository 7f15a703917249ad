"""Status snapshots: frozen data about the slot, the folders, the index and the owner; and the counters behind them.

The published records are derived from these classes: clients get the fields in this order, and the text in
``Annotated`` is the field's description in the schema. Units are in the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from indexer.documents.pool_status import PoolStatus
from indexer.slot.slot_types import SlotStatus
from indexer.types import OneLine, Outcome, PathName, Timestamp

Serving = Literal["serving", "degraded", "unavailable"]
PART = "part"
"""``FolderStatus.source`` of a part of an indexed folder."""
FolderState = Literal["waiting", "scanning", "reading", "embedding", "blocked", "ready", "unavailable"]


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Files of one folder, counted."""

    indexed: int = 0
    pending: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Why files are not searchable, counted."""

    reason: OneLine
    files: int


@dataclass(frozen=True, slots=True)
class FormatCounts:
    """Coverage of one format in a folder."""

    format: Annotated[str, "Suffix of the files; other for names that promise nothing."]
    indexed: int
    skipped: int
    failed: int
    reasons: Annotated[
        tuple[ReasonCount, ...], "Why files of this format are not searchable; with verbose."
    ] = ()  # the most frequent first


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One file that is not searchable, or not all of it."""

    path: PathName
    outcome: Annotated[Outcome, "indexed: but for passages that hold a secret."]
    reason: OneLine
    attempts: int


@dataclass(frozen=True, slots=True)
class Work:
    """What was done since the process started."""

    files_walked: int = 0
    files_read: int = 0
    chunks_written: int = 0
    chunks_embedded: int = 0
    vectors_reused: int = 0


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """One indexed folder."""

    path: PathName
    model: str
    state: FolderState  # ``blocked`` names the warm window it waits for in ``detail``
    detail: OneLine
    files: FileCounts
    chunks: int
    embedded: Annotated[int, "Chunks that can be found by meaning."]
    coverage: Annotated[float, "embedded / chunks, 0 to 1."]  # 1.0 when there are no chunks
    position: Annotated[int | None, "Place in the queue: 0 is being worked on, null has nothing to do."]
    eta_s: Annotated[float | None, "Estimated seconds to full coverage."]  # None when unknown
    reasons: Annotated[tuple[ReasonCount, ...], "Files skipped or failed, by reason."]
    problems: Annotated[tuple[FileProblem, ...], "Files not searchable, by name; all of them with verbose."]
    source: Annotated[str, "Who named it: config, added, command line."]  # or PART
    last_scan: Timestamp | None
    formats: Annotated[tuple[FormatCounts, ...], "Files by format, the most frequent first."] = ()
    advice: Annotated[tuple[OneLine, ...], "What should be changed about its model; tell the user."] = ()


@dataclass(frozen=True, slots=True)
class Halves:
    """The two halves of search."""

    keyword: Serving
    semantic: Serving


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """One client of the owner."""

    pid: int
    version: str
    since: Timestamp
    folders: Annotated[tuple[PathName, ...], "Folders it named; it searches these by default."]
    same_config: Annotated[bool, "Whether it read the same configuration as the owner, whose one counts."]


@dataclass(frozen=True, slots=True)
class OwnerStatus:
    """The process that holds the index and the model."""

    pid: int
    version: str
    # initializing: heavy libraries are being imported; read_only: another process is the writer
    state: Literal["uninitialized", "initializing", "serving", "read_only", "stopping"]
    detail: OneLine
    clients: int
    since: Timestamp
    data_dir: PathName
    relays: Annotated[tuple[RelayStatus, ...], "Who is connected; empty where a process serves one."] = ()


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The index as a whole."""

    chunks: int
    embedded: int
    disk_bytes: int | None  # when last measured, None before
    rate_chunks_per_s: float
    last_maintenance: Timestamp | None
    last_error: OneLine  # of maintenance or of a write
    parser: Annotated[str, "State of the document parsers in one word."]  # empty before the index is open
    pool: Annotated[PoolStatus | None, "The document parsers; null before the index is open."] = None
    # repairing: damage was found and is being repaired; rebuilding: lost text is being read from the folders again;
    # the codes of ``StoreError`` where it cannot be written: disk_full, read_only, permission, io_error, busy, ...
    state: Annotated[
        str, "opening, ready, repairing, rebuilding, or why it cannot be written: disk_full, read_only, ..."
    ] = "ready"
    remedy: Annotated[OneLine, "What to do about the state; empty when nothing."] = ""
    notices: Annotated[tuple[OneLine, ...], "What was mended or set aside, and what speaks for a move."] = ()


@dataclass(frozen=True, slots=True)
class ModelAvailability:
    """A model that the configuration or a folder names."""

    name: str
    local: Annotated[bool, "Whether it can be loaded from this machine."]
    size: Annotated[int | None, "Bytes of its files here, or of what a pull would fetch."]  # None when unknown
    runtime: Annotated[str, "What would load it: onnx or torch; empty when it is not here."]
    reason: Annotated[OneLine, "Why it cannot be loaded (its folders are searched by word) or only by torch."]
    remedy: OneLine


@dataclass(frozen=True, slots=True)
class Status:
    """Everything, as of ``at``."""

    at: Timestamp
    services: Halves
    folders: tuple[FolderStatus, ...]
    slot: SlotStatus
    index: IndexStatus
    owner: OwnerStatus
    work: Work
    models: Annotated[
        tuple[ModelAvailability, ...], "The default model and those that folders name; empty until looked for."
    ] = ()
    notices: Annotated[tuple[OneLine, ...], "What the reader should know and do."] = ()  # added by whoever shows it


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of ``index`` did."""

    folders: tuple[PathName, ...]
    indexed: Annotated[int, "Files that are searchable."]
    skipped: Annotated[int, "Files left out on purpose."]
    failed: Annotated[int, "Files that could not be read."]
    chunks: int
    embedded: Annotated[int, "Chunks that can be found by meaning."]
    work: Annotated[Work, "What this run did, as against what was there before."]
    seconds: float
    complete: Annotated[bool, "Everything indexable is indexed and embedded."]
    incomplete_because: tuple[OneLine, ...]  # one sentence a folder
    problems: tuple[FileProblem, ...]


# Counters -----------------------------------------------------------------------------------------------------------

RATE_WEIGHT = 0.2
"""Weight of the newest measurement in the exponentially weighted embedding rate."""


class WorkCounters:
    """Counters since the engine was opened. The passes write them, status reads them, all on one event loop."""

    def __init__(self) -> None:
        self.files_walked = 0
        self.files_read = 0
        self.chunks_written = 0
        self.chunks_embedded = 0
        self.vectors_reused = 0
        self.rate = 0.0
        self.last_error = ""

    def embedded(self, chunks: int, seconds: float) -> None:
        """Count one micro-batch and its time."""
        self.chunks_embedded += chunks
        if seconds > 0:
            rate = chunks / seconds
            self.rate = rate if not self.rate else self.rate + RATE_WEIGHT * (rate - self.rate)

    def work(self) -> Work:
        """A snapshot."""
        return Work(self.files_walked, self.files_read, self.chunks_written, self.chunks_embedded, self.vectors_reused)
