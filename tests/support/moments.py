"""One moment of a busy owner, every part of the status filled: what views are drawn of."""

from __future__ import annotations

from dataclasses import replace

from indexer.slot.slot_types import ErrorStatus, HolderStatus, MemoryStatus, ModelStatus, QueueStatus, SlotStatus
from indexer.status_types import (
    FileCounts,
    FileProblem,
    FolderStatus,
    Halves,
    IndexStatus,
    OwnerStatus,
    ReasonCount,
    RelayStatus,
    Status,
    Work,
)

NOW = 1_795_323_600.0  # on the minute
HOME = "/home/ada"
MODEL = ModelStatus("all-MiniLM-L6-v2", "key", 384, "onnx", "cpu", "f32")

DONE = FolderStatus(
    path=f"{HOME}/notes", model="all-MiniLM-L6-v2", state="ready", detail="", files=FileCounts(1204, 0, 12, 0),
    chunks=10_880, embedded=10_880, coverage=1.0, position=None, eta_s=0.0, reasons=(ReasonCount("binary", 12),),
    problems=(FileProblem(f"{HOME}/notes/logo.png", "skipped", "binary", 1),), source="added", last_scan=NOW - 60,
)  # fmt: skip
BUSY = FolderStatus(
    path=f"{HOME}/work/reports of the year", model="all-MiniLM-L6-v2", state="embedding", detail="",
    files=FileCounts(412, 88, 3, 2), chunks=5_000, embedded=1_650, coverage=0.33, position=0, eta_s=190.0,
    reasons=(ReasonCount("password-protected", 2),),
    problems=(
        FileProblem(f"{HOME}/work/reports of the year/q3.pdf", "failed", "password-protected", 1),
        FileProblem(f"{HOME}/work/reports of the year/<b>x</b>.docx", "failed", "damaged: no document.xml", 3),
    ),
    source="config", last_scan=None,
)  # fmt: skip
SLOT = SlotStatus(
    state="ready", epoch=3, model=MODEL, since=NOW - 240, loaded_at=NOW - 240, last_used_at=NOW - 51,
    warm_until=NOW + 249, holder=HolderStatus("index", NOW - 7), queue=QueueStatus(1, 1, 0.4),
    memory=MemoryStatus(rss=412_000_000),
)  # fmt: skip
STATUS = Status(
    at=NOW,
    owner=OwnerStatus(
        4711, "0.1.0", "serving", "", 2, NOW - 900, "/data",
        (RelayStatus(5001, "0.1.0", NOW - 600, (f"{HOME}/notes",), True), RelayStatus(5002, "0.1.0", NOW, (), False)),
    ),
    services=Halves("serving", "degraded"),
    slot=SLOT,
    index=IndexStatus(15_880, 12_530, 48_300_000, 17.6, NOW - 200, "", "", None),
    folders=(DONE, BUSY),
    work=Work(500, 502, 5_000, 1_650, 0),
)  # fmt: skip
ERROR = ErrorStatus(
    "key", MODEL.name, "network", "The model could not be fetched.", "Look at the connection.", NOW - 3, 1, 3,
    NOW + 12, True,
)  # fmt: skip
FAILED = replace(
    STATUS, slot=SlotStatus(state="error", epoch=9, since=NOW - 3, errors=(ERROR,), last_error=ERROR), folders=(DONE,)
)
NOTHING = replace(
    STATUS,
    owner=OwnerStatus(4711, "0.1.0", "serving", "", 0, NOW, "/data"),
    slot=SlotStatus(),
    index=IndexStatus(0, 0, None, 0.0, None, "", ""),
    folders=(),
)
