"""The document of ``folder-mcp models list --json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcp_server.protocol.results import Line, Path, Record


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
