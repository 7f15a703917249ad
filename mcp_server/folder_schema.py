"""The parts of ``status`` that tell of folders, their files, and the processes that read them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from indexer.status import FolderState
from mcp_server.schemas import Path, Record, Time
from mcp_server.untrusted import one_line

Line = Annotated[str, BeforeValidator(lambda value: one_line(value) if isinstance(value, str) else value)]
"""One line of text that may quote names of files."""


class FilesRecord(Record):
    """Files of one folder, counted."""

    indexed: int
    pending: int
    skipped: int
    failed: int


class ReasonRecord(Record):
    """Why files are not searchable, counted."""

    reason: Line
    files: int


class ProblemRecord(Record):
    """One file that is not searchable, or not all of it."""

    path: Path
    outcome: Literal["indexed", "skipped", "failed"] = Field(
        description="indexed: but for passages that hold a secret."
    )
    reason: Line
    attempts: int


def _reasons(value: Any) -> Any:
    return [{"reason": item[0], "files": item[1]} if isinstance(item, tuple) else item for item in value]


class FormatRecord(Record):
    """Coverage of one format in a folder."""

    format: str = Field(description="Suffix of the files; other for names that promise nothing.")
    indexed: int
    skipped: int
    failed: int
    reasons: Annotated[list[ReasonRecord], BeforeValidator(_reasons)] = Field(
        default=[], description="Why files of this format are not searchable; with verbose."
    )


class FolderRecord(Record):
    """One indexed folder."""

    path: Path
    model: str
    state: FolderState
    detail: Line
    files: FilesRecord
    chunks: int
    embedded: int = Field(description="Chunks that can be found by meaning.")
    coverage: float = Field(description="embedded / chunks, 0 to 1.")
    position: int | None = Field(description="Place in the queue: 0 is being worked on, null has nothing to do.")
    eta_s: float | None = Field(description="Estimated seconds to full coverage.")
    reasons: Annotated[list[ReasonRecord], BeforeValidator(_reasons)] = Field(
        description="Files skipped or failed, by reason."
    )
    problems: list[ProblemRecord] = Field(description="Files not searchable, by name; all of them with verbose.")
    source: str = Field(description="Who named it: config, added, command line.")
    last_scan: Time | None
    formats: list[FormatRecord] = Field(default=[], description="Files by format, the most frequent first.")
    advice: list[Line] = Field(default=[], description="What should be changed about its model; tell the user.")


class ComplaintRecord(Record):
    """What a parser process, or starting one, said."""

    level: Literal["error", "warning", "information"]
    text: Line
    at: Time
    pid: int


class PoolRecord(Record):
    """The processes that read documents."""

    state: Literal["stopped", "starting", "running", "degraded", "unavailable"] = Field(
        description="stopped: nothing to do; degraded: a process per file; unavailable: plain text only."
    )
    step: Literal["pool", "process per file", "plain text only"] = Field(description="Step of the ladder.")
    workers: int
    busy: int
    restarts: int = Field(description="Processes replaced after a crash, a hang or too much memory.")
    parsed: int
    pids: list[int]
    interpreter: str = Field(description="The Python they run on; empty when none was found.")
    network: str = Field(description="How they are kept from the network; empty before the first start.")
    missing: list[str] = Field(description="Packages that Python lacks: their formats are not indexed.")
    last_errors: list[ComplaintRecord]
    warnings: list[ComplaintRecord]
    detail: Line = Field(description="What is wrong; empty when nothing is.")
    remedy: Line = Field(description="What to do about it.")
