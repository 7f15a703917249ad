"""An engine whose searches and readings are recorded, for what does not come through the tools: page and commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from indexer.types import Answer, Query, Reading
from mcp_server.engine_port import EnginePort
from mcp_server.record.record import Asker, Record


def recorded(engine: EnginePort, record: Record, asker: Asker) -> EnginePort:
    """Return the engine as one asker sees it: what it shows stands in the record."""
    return cast(EnginePort, RecordedEngine(engine, record, asker))


class RecordedEngine:
    """Implements ``EnginePort`` over another engine."""

    def __init__(self, engine: EnginePort, record: Record, asker: Asker) -> None:
        self._engine = engine
        self._record = record
        self._asker = asker

    def as_asker(self, client: str) -> EnginePort:
        """Return the same engine for another asker of this program."""
        return recorded(self._engine, self._record, replace(self._asker, client=client))

    async def search(self, query: Query) -> Answer:
        """Search, and record which files had hits."""
        folders = query.scope.folders or ()
        async with self._record.answer(self._asker, "search", query=query.text, asked=folders) as shown:
            answer = await self._engine.search(query)
            shown.show((hit.path for hit in answer.hits), len(answer.hits))
            return answer

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read, and record the file."""
        async with self._record.answer(self._asker, "read", asked=(path,)) as shown:
            reading = await self._engine.read(path, locator, max_chars=max_chars)
            shown.show((reading.path,))
            return reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
