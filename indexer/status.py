"""One snapshot of everything: the slot, the folders, the owner. Reading it never waits.

Units are in the names; times are seconds since the epoch (rendered as ISO 8601 with zone at the edge).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexer.model.snapshot import SlotStatus
from indexer.text.pool_status import PoolStatus
from indexer.types import Outcome

Serving = Literal["serving", "degraded", "unavailable"]
FolderState = Literal["waiting", "scanning", "reading", "embedding", "blocked", "ready", "unavailable"]


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files of a folder stand where."""

    indexed: int = 0
    pending: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class FormatCounts:
    """Coverage of one format in a folder.

    Attributes:
        format: Suffix without its dot; ``other`` for names that promise nothing.
        reasons: Why files were skipped or failed, counted, the most frequent first; only with ``verbose``.
    """

    format: str
    indexed: int
    skipped: int
    failed: int
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One file that is not searchable, or not all of it, by name, and why."""

    path: str
    outcome: Outcome
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Work:
    """What the indexer has done since it started: the proof that finished work is not redone."""

    files_walked: int = 0
    files_read: int = 0
    chunks_written: int = 0
    chunks_embedded: int = 0
    vectors_reused: int = 0


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """One folder.

    Attributes:
        state: What is happening to it; ``blocked`` names the warm window it waits for in ``detail``.
        detail: One sentence for people, may be empty.
        chunks: Chunks in the index.
        embedded: Chunks that have a vector of this folder's model.
        coverage: ``embedded / chunks``, 1.0 when there are none.
        position: Place in the queue, 0 = being worked on, None = nothing to do.
        eta_s: Estimated seconds to full coverage, None when unknown.
        reasons: Files skipped or failed, counted by reason.
        problems: The first failures and skips by name (all of them with ``verbose``).
        source: Who named it: ``config``, ``added``, ``command line``.
        advice: What should be changed about its model, one sentence each.
        formats: Coverage by format, the most frequent first (all of them with ``verbose``).
    """

    path: str
    model: str
    state: FolderState
    detail: str
    files: FileCounts
    chunks: int
    embedded: int
    coverage: float
    position: int | None
    eta_s: float | None
    reasons: tuple[tuple[str, int], ...]
    problems: tuple[FileProblem, ...]
    source: str
    last_scan: float | None
    formats: tuple[FormatCounts, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Halves:
    """The two halves of search, reported apart."""

    keyword: Serving
    semantic: Serving


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """One client's process, and what it brought.

    Attributes:
        folders: Folders it named; it searches these by default.
        same_config: Whether it read the same configuration file as the owner.
    """

    pid: int
    version: str
    since: float
    folders: tuple[str, ...]
    same_config: bool


@dataclass(frozen=True, slots=True)
class OwnerStatus:
    """The process that owns the index and the model.

    Attributes:
        state: ``uninitialized``, ``initializing`` (heavy libraries are being imported), ``serving``,
            ``read_only`` (another process is the writer), ``stopping``.
        relays: Who is connected; empty where one process serves one client.
    """

    pid: int
    version: str
    state: Literal["uninitialized", "initializing", "serving", "read_only", "stopping"]
    detail: str
    clients: int
    since: float
    data_dir: str
    relays: tuple[RelayStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The index as a whole.

    Attributes:
        disk_bytes: Size of the database directory when last measured, None before.
        last_error: Last maintenance or write error, empty when none.
        state: ``opening``, ``ready``, ``repairing`` (damage was met and is being looked for), ``rebuilding`` (lost
            text is being read from the folders again), or why it cannot be written: ``disk_full``, ``read_only``,
            ``permission``, ``io_error``, ``busy``, ``missing``, ... (the codes of ``StoreError``).
        remedy: What to do about the state, one sentence; empty when nothing.
        notices: What was mended since the start, what was set aside, what speaks against the data directory's place.
        parser: ``pool.state`` in one word, empty before the index is open.
        pool: The parser processes (ladder, last errors, interpreter, remedy); None before the index is open.
    """

    chunks: int
    embedded: int
    disk_bytes: int | None
    rate_chunks_per_s: float
    last_maintenance: float | None
    last_error: str
    parser: str
    pool: PoolStatus | None = None
    state: str = "ready"
    remedy: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelAvailability:
    """A model that the configuration or a folder names, as found on this machine.

    Attributes:
        name: As it was named.
        local: Whether it can be loaded from here.
        size: Bytes of its files here, or of what ``models pull`` would fetch; None when unknown.
        runtime: What would load it, ``onnx`` or ``torch``; empty when it is not here.
        reason: Why it cannot be loaded, or why only by torch, one sentence; empty when all is well.
        remedy: What to do about it, one sentence; empty when nothing.
    """

    name: str
    local: bool
    size: int | None
    runtime: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Status:
    """Everything, as of ``at``.

    Attributes:
        models: The default model, those that folders name and the reranker; empty until they have been looked for.
    """

    at: float
    owner: OwnerStatus
    services: Halves
    slot: SlotStatus
    index: IndexStatus
    folders: tuple[FolderStatus, ...]
    work: Work
    models: tuple[ModelAvailability, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one ``index`` run did, for the folders it was asked for.

    Attributes:
        complete: Everything indexable is indexed and embedded.
        incomplete_because: Why not, one sentence a folder.
    """

    folders: tuple[str, ...]
    indexed: int
    skipped: int
    failed: int
    chunks: int
    embedded: int
    work: Work
    seconds: float
    complete: bool
    incomplete_because: tuple[str, ...]
    problems: tuple[FileProblem, ...]
