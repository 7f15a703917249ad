"""One ``Status`` from what every component already knows; with advice on models, and the health of the index.

Nothing here waits, reads a disk or takes a lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.documents.pool_status import PoolStatus
from indexer.errors import StoreError
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.manifest import Manifest, format_name
from indexer.lifetime import Components
from indexer.models.catalogue import Entry, entries
from indexer.slot.slot_types import SlotStatus
from indexer.status_types import (
    PART,
    FileCounts,
    FileProblem,
    FolderState,
    FolderStatus,
    FormatCounts,
    Halves,
    IndexReport,
    IndexStatus,
    ModelAvailability,
    OwnerStatus,
    ReasonCount,
    Serving,
    Status,
    Work,
    WorkCounters,
)
from indexer.store.health import REMEDIES
from indexer.types import FileRow

PROBLEMS_SHOWN = 5
"""Files named in a status that is not verbose."""
FORMATS_SHOWN = 12
"""Formats of a folder in a status that is not verbose."""
REASONS_SHOWN = 5
"""Reasons named for one format."""


def build_status(
    owner: OwnerStatus,
    folders: Folders,
    counters: WorkCounters,
    components: Components | None,
    models: tuple[ModelAvailability, ...],
    *,
    verbose: bool,
    failure: StoreError | None = None,
    parts: Sequence[str] = (),
) -> Status:
    """A snapshot of everything.

    Args:
        owner: The process.
        folders: The folders that are indexed.
        counters: The work done so far.
        components: The open index, None until it is open.
        models: The models that are named, as found on this machine.
        verbose: Name every problem instead of the first few.
        failure: Why the index could not be opened the last time.
        parts: Absolute paths inside the folders, each to be shown as a folder of its own after them.
    """
    slot = components.slot.status() if components and components.slot else SlotStatus()
    pool = components.parsers.status() if components else None
    index = index_health(components, failure)
    statuses = _folder_statuses(folders, components, slot, counters, verbose=verbose) if components else ()
    return Status(
        at=time.time(),
        owner=owner,
        services=_services(folders, components, slot),
        slot=slot,
        index=IndexStatus(
            chunks=sum(f.chunks for f in statuses),
            embedded=sum(f.embedded for f in statuses),
            disk_bytes=components.store.disk_bytes if components else None,
            rate_chunks_per_s=counters.rate,
            last_maintenance=components.store.maintenance.last if components else None,
            last_error=index.error or counters.last_error,
            parser=pool.state if pool else "",
            pool=pool,
            state=index.state,
            remedy=index.remedy,
            notices=index.notices,
        ),
        folders=statuses + _part_statuses(parts, statuses, components, verbose=verbose),
        work=counters.work(),
        models=models,
    )


def index_report(folders: Sequence[FolderStatus], before: Work, after: Work, seconds: float) -> IndexReport:
    """What an ``index`` run did: the folders as they are now, and the work between two snapshots."""
    incomplete = [f"{f.path}: {f.detail or f.state}" for f in folders if f.coverage < 1.0 or f.state == "unavailable"]
    return IndexReport(
        folders=tuple(f.path for f in folders),
        indexed=sum(f.files.indexed for f in folders),
        skipped=sum(f.files.skipped for f in folders),
        failed=sum(f.files.failed for f in folders),
        chunks=sum(f.chunks for f in folders),
        embedded=sum(f.embedded for f in folders),
        work=Work(
            after.files_walked - before.files_walked,
            after.files_read - before.files_read,
            after.chunks_written - before.chunks_written,
            after.chunks_embedded - before.chunks_embedded,
            after.vectors_reused - before.vectors_reused,
        ),
        seconds=seconds,
        complete=not incomplete,
        incomplete_because=tuple(incomplete),
        problems=tuple(problem for f in folders for problem in f.problems),
    )


def _folder_statuses(
    folders: Folders, components: Components, slot: SlotStatus, counters: WorkCounters, *, verbose: bool
) -> tuple[FolderStatus, ...]:
    embedding = set(components.embedding_pass.active.values()) if components.embedding_pass else set()
    positions = _positions(folders, components, embedding)
    return tuple(
        _folder_status(
            folder, components, slot, counters, folder.path in embedding, positions.get(folder.path), verbose=verbose
        )
        for folder in folders
    )


def _folder_status(
    folder: LiveFolder,
    components: Components,
    slot: SlotStatus,
    counters: WorkCounters,
    embedding: bool,
    position: int | None,
    *,
    verbose: bool,
) -> FolderStatus:
    path, spec, manifest = folder.path, folder.model.spec, components.manifest
    chunks = components.store.chunk_count(path)
    embedded = min(chunks, components.store.embedded_count(spec.key, path)) if spec else 0
    left = chunks - embedded
    problems = manifest.problems(path)
    blocked = _blocked(folder, slot) if left else ""
    state = _state(folder, left, embedding=embedding, blocked=bool(blocked))
    eta = left / counters.rate if left and counters.rate and spec else 0.0 if not left and folder.scanned else None
    return FolderStatus(
        path=path,
        model=folder.model.name,
        state=state,
        detail=_detail(folder, blocked if state == "blocked" else ""),
        files=FileCounts(
            indexed=manifest.count(path, "indexed"),
            pending=folder.to_read,
            skipped=manifest.count(path, "skipped"),
            failed=manifest.count(path, "failed"),
        ),
        chunks=chunks,
        embedded=embedded,
        coverage=embedded / chunks if chunks else 1.0,
        position=position,
        eta_s=eta,
        reasons=_most_common(Counter(row.reason for row in problems)),
        problems=_problems(problems, verbose=verbose),
        source=folder.known.source,
        last_scan=folder.last_scan,
        formats=_formats(manifest.formats(path), problems if verbose else ())[: None if verbose else FORMATS_SHOWN],
        advice=_advice(folder, manifest, counters.rate),
    )


def _part_statuses(
    parts: Sequence[str], folders: Sequence[FolderStatus], components: Components | None, *, verbose: bool
) -> tuple[FolderStatus, ...]:
    """Parts of folders. Files and chunks are counted in the part; how far the embedding is, is known of the whole."""
    if components is None:
        return ()
    return tuple(
        _part_status(part, folder, components.manifest, verbose=verbose)
        for part in parts
        for folder in folders
        if part.startswith(folder.path.rstrip("/") + "/")
    )


def _part_status(part: str, folder: FolderStatus, manifest: Manifest, *, verbose: bool) -> FolderStatus:
    rows = manifest.below(folder.path, part)
    outcomes = Counter(row.outcome for row in rows.values())
    chunks = sum(row.chunks for row in rows.values())
    problems = [row for row in manifest.problems(folder.path) if row.path in rows]
    formats: dict[str, Counter[str]] = {}
    for row in rows.values():
        formats.setdefault(format_name(row.path), Counter())[row.outcome] += 1
    ordered = {name: formats[name] for name in sorted(formats, key=lambda name: (-formats[name].total(), name))}
    return FolderStatus(
        path=part,
        model=folder.model,
        state=folder.state,
        detail="",
        files=FileCounts(outcomes["indexed"], 0, outcomes["skipped"], outcomes["failed"]),
        chunks=chunks,
        embedded=int(chunks * folder.coverage),
        coverage=folder.coverage,
        position=None,
        eta_s=None,
        reasons=_most_common(Counter(row.reason for row in problems)),
        problems=_problems(problems, verbose=verbose),
        source=PART,
        last_scan=folder.last_scan,
        formats=_formats(ordered, problems if verbose else ())[: None if verbose else FORMATS_SHOWN],
    )


def _problems(rows: Sequence[FileRow], *, verbose: bool) -> tuple[FileProblem, ...]:
    shown = rows if verbose else rows[:PROBLEMS_SHOWN]
    return tuple(FileProblem(row.path, row.outcome, row.reason, row.attempts) for row in shown)


def _advice(folder: LiveFolder, manifest: Manifest, rate: float) -> tuple[str, ...]:
    """What should be changed about a folder's model; nothing while it is being read for the first time."""
    if not folder.scanned:
        return ()
    found = advise(folder.path, folder.model.name, folder.model.languages, manifest.languages(folder.path), rate)
    return (str(found),) if found else ()


def _formats(counts: Mapping[str, Mapping[str, int]], problems: Sequence[FileRow]) -> tuple[FormatCounts, ...]:
    """Files by format and outcome, with the reasons of the given problems."""
    reasons: dict[str, Counter[str]] = {}
    for row in problems:
        reasons.setdefault(format_name(row.path), Counter())[row.reason] += 1
    return tuple(
        FormatCounts(
            name,
            outcomes.get("indexed", 0),
            outcomes.get("skipped", 0),
            outcomes.get("failed", 0),
            _most_common(reasons.get(name, Counter()), REASONS_SHOWN),
        )
        for name, outcomes in counts.items()
    )


def _most_common(reasons: Counter[str], shown: int | None = None) -> tuple[ReasonCount, ...]:
    return tuple(ReasonCount(reason, files) for reason, files in reasons.most_common(shown))


def _positions(folders: Folders, components: Components, embedding: set[str]) -> dict[str, int]:
    """Position in the queue of each folder that has something to do; those being worked on are 0."""
    reading = components.text_pass.active if components.text_pass else frozenset[str]()
    busy = [f.path for f in folders if f.path in reading or f.path in embedding]
    waiting = sorted((f.path for f in folders if components.queue.is_waiting(f.path)), key=components.queue.position)
    not_embedded = [
        f.path
        for f in folders
        if f.model.spec is not None and components.store.pending_count(f.model.spec.key, f.path) > 0
    ]
    positions = dict.fromkeys(busy, 0)
    for path in (*waiting, *not_embedded):
        positions.setdefault(path, len(positions))
    return positions


def _state(folder: LiveFolder, left: int, *, embedding: bool, blocked: bool) -> FolderState:
    if not folder.available:
        return "unavailable"
    if folder.state in {"scanning", "reading"}:
        return folder.state
    if embedding:
        return "embedding"
    if not left:
        return "ready" if folder.scanned else "waiting"
    return "blocked" if blocked or folder.embedding_problem or folder.model.problem else "waiting"


def _detail(folder: LiveFolder, blocked: str) -> str:
    if folder.detail:
        return folder.detail
    if folder.model.problem is not None:
        return f"searchable by word only: {folder.model.problem} {folder.model.problem.hint}".strip()
    return folder.embedding_problem or blocked or folder.watch_problem


def _blocked(folder: LiveFolder, slot: SlotStatus) -> str:
    """Why a folder's model has to wait for the slot, empty when it does not."""
    spec = folder.model.spec
    if spec is None or slot.model is None or slot.model.key == spec.key:
        return ""
    left = (slot.warm_until or 0.0) - time.time()
    if left > 0:
        return f"waits for {slot.model.name}, which is kept warm for tool calls for {left:.0f} s more"
    return f"waits for {slot.model.name}, which is in the slot"


def _services(folders: Folders, components: Components | None, slot: SlotStatus) -> Halves:
    if components is None:
        return Halves("unavailable", "unavailable")
    keyword: Serving = "degraded" if documents_degraded(components.parsers.status()) else "serving"
    if components.slot is None:
        return Halves(keyword, "unavailable")
    missing = [folder.model.spec is None for folder in folders]
    if slot.state == "error" or (missing and all(missing)):
        return Halves(keyword, "unavailable")
    return Halves(keyword, "degraded" if any(missing) or slot.orphan else "serving")


def documents_degraded(pool: PoolStatus) -> bool:
    """Whether some documents cannot be read, or only slowly: searches then miss their text."""
    return pool.step != "pool" or bool(pool.missing)


# Advice on models ---------------------------------------------------------------------------------------------------

FOREIGN_SHARE = 0.2
"""Share of a folder's text in languages its model does not know, above which another model is worth its cost."""
MIN_CHUNKS = 20
"""A folder with fewer chunks says too little about its languages."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What should be changed about a folder's model.

    Attributes:
        fault: What does not fit.
        remedy: The better model, what it costs, and how to change to it; empty when there is none.
    """

    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.fault}. {self.remedy}".strip()


def advise(
    folder: str, model: str, model_languages: frozenset[str] | None, chunks: Mapping[str, int], rate: float
) -> Advice | None:
    """What should be changed about a folder's model; None when it fits, or that is not known.

    Args:
        folder: The folder's root, for the command to run.
        model: Its model's name.
        model_languages: ISO 639-1 codes of the languages the model was made for; None when many or unknown:
            there is no advice then.
        chunks: Chunks by language; the empty code is text that shows none (code, tables), which every model can embed.
        rate: Chunks embedded a second now, 0.0 when nothing has been measured.
    """
    total = sum(chunks.values())
    foreign = {
        code: count
        for code, count in chunks.items()
        if code and model_languages is not None and code not in model_languages
    }
    missed = sum(foreign.values())
    if total < MIN_CHUNKS or missed <= FOREIGN_SHARE * total:
        return None
    named = ", ".join(sorted(foreign, key=lambda code: (-foreign[code], code))[:3])
    fault = f"{missed / total:.0%} of the text ({named}) can be found by word only: {model} was not made for it"
    better = smallest_fitting_model(frozenset(foreign) | (model_languages or frozenset()))
    if better is None:
        return Advice(fault, "")
    minutes = (
        f"about {max(1, round(total / rate / 60)):,} min at the present rate" if rate > 0 else "time not known yet"
    )
    return Advice(
        fault,
        f"{better.name} reads it: {better.disk_bytes / 1e6:,.0f} MB, {total:,} chunks to embed anew, {minutes}. "
        f'Run: folder-mcp models pull {better.name}, then: folder-mcp folders add "{folder}" --model {better.name}',
    )


def smallest_fitting_model(languages: frozenset[str]) -> Entry | None:
    """The smallest model of the catalogue that knows these languages and needs neither an account nor remote code."""
    fitting = [
        entry
        for entry in entries()
        if entry.kind == "embedder"
        and not entry.gated
        and not entry.remote_code
        and (not entry.language_codes or languages <= frozenset(entry.language_codes))
    ]
    return min(fitting, key=lambda entry: (entry.disk_bytes, entry.name), default=None)


# Health of the index ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """The index's ``state``, ``last_error``, ``remedy`` and ``notices`` in ``IndexStatus``."""

    state: str
    error: str = ""
    remedy: str = ""
    notices: tuple[str, ...] = ()


def index_health(components: Components | None, failure: StoreError | None) -> IndexHealth:
    """The state of the index.

    Args:
        components: What is open, None when nothing is.
        failure: Why it could not be opened the last time, None when it could.
    """
    if components is None:
        if failure is None:
            return IndexHealth("opening")
        if failure.code == "missing":
            return IndexHealth("missing", "", "it is made when a folder is indexed: folder-mcp index FOLDER")
        return IndexHealth(failure.code, str(failure), REMEDIES.get(failure.code, ""))
    health, notices = (
        components.store.health,
        (*components.store.damage, *_quarantined(components), *components.warnings),
    )
    if health.damage_suspected.is_set() and not components.store.read_only:
        return IndexHealth("repairing", "", "nothing: it is being repaired, and searches go on", notices)
    if components.refused is not None:
        refused = components.refused
        return IndexHealth(refused.code, str(refused), REMEDIES.get(refused.code, ""), notices)
    if health.problem is not None:
        return IndexHealth(health.problem.code, health.problem.detail, health.problem.remedy, notices)
    if health.rebuilding:
        return IndexHealth("rebuilding", health.rebuilding, "nothing: it goes on by itself", notices)
    return IndexHealth("ready", "", "", notices)


def _quarantined(components: Components) -> tuple[str, ...]:
    names = components.store.quarantined
    place = components.store.directory / "damaged"
    return (f"damaged parts are kept in {place}: {', '.join(names)}; delete them when you like",) if names else ()
