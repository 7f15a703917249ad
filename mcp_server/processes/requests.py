"""What our own commands ask the owner: the engine's methods over a connection, a line of JSON each way.

``{"id": 1, "do": "search", "with": {...}}`` is answered by ``{"id": 1, "result": ...}``, by
``{"id": 1, "error": ...}`` or, for ``watch``, by ``{"id": 1, "event": ...}`` until the other side leaves.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from indexer.errors import FolderMcpError
from mcp_server.engine_port import call_types, made, plain
from mcp_server.processes.reception import Visitor

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort

log = logging.getLogger(__name__)

End = Callable[[str, str], None]
"""Ends the owner: why (``stop``, ``stand_down``), and for which version."""


class Requests:
    """Answers one command's requests."""

    def __init__(
        self, engine: Callable[[], Awaitable[EnginePort]], end: End, page: Callable[[], Awaitable[str]]
    ) -> None:
        """Keep what is needed.

        Args:
            engine: Returns the engine, when there is one.
            end: Ends the owner.
            page: Opens the page and returns its address.
        """
        self._engine = engine
        self._end = end
        self._page = page

    async def serve(self, visitor: Visitor) -> None:
        """Answer until the command leaves; what it still waits for is then not waited for any more."""
        async with anyio.create_task_group() as group:
            while (line := await visitor.line()) is not None:
                request = json.loads(line)
                group.start_soon(self._answer, visitor, request["id"], str(request["do"]), request.get("with") or {})
            group.cancel_scope.cancel()

    async def _answer(self, visitor: Visitor, identity: Any, do: str, given: dict[str, Any]) -> None:
        try:
            if do == "watch":
                async for status in (await self._engine()).watch():
                    await visitor.say({"id": identity, "event": plain(status)})
                return
            result = await self._done(do, given)
        except FolderMcpError as error:
            about = {"kind": type(error).__name__, "text": str(error), "code": getattr(error, "code", "")}
            await visitor.say({"id": identity, "error": about})
        except Exception as error:  # the boundary to another process: it must hear of it, and so must the log
            log.exception("%s failed", do)
            text = f"{do} failed in the background process ({type(error).__name__}: {error}); see its log"
            await visitor.say({"id": identity, "error": {"kind": "FolderMcpError", "text": text, "code": ""}})
        else:
            await visitor.say({"id": identity, "result": plain(result)})

    async def _done(self, do: str, given: dict[str, Any]) -> Any:
        if do in ("stop", "stand_down"):
            self._end(do, str(given.get("version", "")))
            return True
        if do == "page":
            return await self._page()
        types = call_types(do)
        if not types:
            raise FolderMcpError(f"this background process does not know how to {do}; restart it: folder-mcp stop")
        engine = await self._engine()
        asked = {name: made(types[name], value) for name, value in given.items() if name in types}
        if do == "index":
            await _remember(engine, asked.get("folders"))
        result = getattr(engine, do)(**asked)
        return await result if inspect.isawaitable(result) else result


async def _remember(engine: EnginePort, folders: Sequence[str] | None) -> None:
    """Have the engine index folders that another process remembered."""
    known = {folder.path for folder in engine.folders()}
    for path in folders or ():
        if path not in known:
            await engine.add_folder(path)
