"""The structured result of ``status``: the engine's snapshot with times as ISO 8601."""

from __future__ import annotations

from indexer.status_types import Status
from mcp_server.records import record

StatusResult = record(Status)
