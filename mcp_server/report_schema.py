"""The documents of ``folder-mcp index --json`` and ``folder-mcp folders --json``."""

from __future__ import annotations

from pydantic import Field

from indexer.status_types import IndexReport
from mcp_server.protocol.results import Line, Path, Record, record

IndexResult = record(IndexReport)
"""What one run of ``index`` did."""


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
