"""The documents of ``folder-mcp index --json`` and ``folder-mcp folders --json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from indexer.status_types import IndexReport
from mcp_server.clients.install import Action
from mcp_server.clients.verify import Verification
from mcp_server.protocol.results import AsRecord, Line, Path, Record, record

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


# Install schema -----------------------------------------------------------------------------------------------------
# The documents of ``folder-mcp install --json`` and ``folder-mcp uninstall --json``.


class ClientRecord(Record):
    """One client."""

    client: str = Field(description="What to type for it.")
    title: str
    found: str = Field(description="What shows that it is on this machine; empty when nothing does.")
    file: Path | None = Field(description="Its configuration file; null when it cannot be told.")
    name: str | None = Field(default=None, description="The entry's name.")
    action: Action | Literal["failed", "none"] = "none"
    entry: dict[str, Any] | None = Field(default=None, description="What the client starts.")
    backup: Path | None = Field(default=None, description="The copy of what the file was.")
    check: Annotated[Verification, AsRecord()] | None = None
    restart: str = ""
    error: str = ""


class InstallResult(Record):
    """What was done, client by client."""

    clients: list[ClientRecord]
    complete: bool = Field(description="Nothing failed, and every check found a file.")


# Model schema -------------------------------------------------------------------------------------------------------
# The document of ``folder-mcp models list --json``.


class ModelEntry(Record):
    """One model that can be named."""

    name: str
    kind: Literal["embedder", "reranker"] = Field(
        description="embedder: for a folder; reranker: for search.rerank, off unless named there."
    )
    repo: str = Field(description="Where a pull fetches it from; empty for a local directory.")
    languages: str = Field(description="What it was trained for; empty when unknown.")
    size: int | None = Field(description="Bytes of its files here, or of what a pull would fetch.")
    context: int | None = Field(description="What it sees of a passage, tokens.")
    dimension: int | None = Field(description="Numbers in a vector; null for a reranker.")
    licence: str
    query_prompt: str = Field(description="Put before a query, where the model's own files name none.")
    passage_prompt: str = Field(description="Put before a passage, likewise.")
    gated: bool = Field(description="The hub asks for an accepted licence and a token.")
    local: bool = Field(description="Whether it can be loaded from this machine.")
    runtime: str = Field(description="What would load it: onnx or torch; empty when it is not here.")
    reason: Line = Field(description="Why it cannot be loaded; empty when it can.")
    remedy: Line
    default: bool = Field(description="Whether folders that name no model use it; of a reranker: whether searches do.")
    folders: list[Path] = Field(description="The folders that use it.")
    note: str


class ModelsResult(Record):
    """The catalogue, and what else the configuration and the folders name."""

    models: list[ModelEntry]
    offline: bool = Field(description="Whether nothing is ever fetched.")
    hub_cache: Path = Field(description="Where pulled models lie.")
