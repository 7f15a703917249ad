"""The documents of ``folder-mcp index --json`` and ``folder-mcp folders --json``."""

from __future__ import annotations

from pydantic import Field

from mcp_server.folder_schema import Line, ProblemRecord
from mcp_server.schemas import Path, Record
from mcp_server.status_schema import WorkRecord


class IndexResult(Record):
    """What one run of ``index`` did."""

    folders: list[Path]
    indexed: int = Field(description="Files that are searchable.")
    skipped: int = Field(description="Files left out on purpose.")
    failed: int = Field(description="Files that could not be read.")
    chunks: int
    embedded: int = Field(description="Chunks that can be found by meaning.")
    work: WorkRecord = Field(description="What this run did, as against what was there before.")
    seconds: float
    complete: bool = Field(description="Everything indexable is indexed and embedded.")
    incomplete_because: list[Line]
    problems: list[ProblemRecord]


class KnownRecord(Record):
    """A folder that is indexed."""

    path: Path
    model: str | None = Field(description="Its model; null for the default one.")
    source: str = Field(description="Who named it: config or added.")
    exists: bool = Field(description="Whether it can be reached now.")


class FoldersResult(Record):
    """The known folders."""

    folders: list[KnownRecord]
    refused: list[Line] = Field(description="Configured folders that cannot be indexed, and why.")
