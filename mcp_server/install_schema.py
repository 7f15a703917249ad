"""The documents of ``folder-mcp install --json`` and ``folder-mcp uninstall --json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_server.clients.change import Action
from mcp_server.clients.trial import Trial
from mcp_server.protocol.results import AsRecord, Path, Record


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
    check: Annotated[Trial, AsRecord()] | None = None
    restart: str = ""
    error: str = ""


class InstallResult(Record):
    """What was done, client by client."""

    clients: list[ClientRecord]
    complete: bool = Field(description="Nothing failed, and every check found a file.")
