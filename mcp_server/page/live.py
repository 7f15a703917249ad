"""What an open page is told, as it happens: server-sent events, read by the page with its token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import anyio

from mcp_server.engine_port import plain
from mcp_server.page.visits import Farewell
from mcp_server.protocol.results import StatusResult

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort


class Live:
    """One open page, as an ASGI response: the history, then the status at every change, then why it ended."""

    def __init__(
        self,
        engine: Callable[[], Awaitable[EnginePort]],
        looking: Callable[[], AbstractContextManager[Any]],
        parting: Farewell,
    ) -> None:
        self._engine = engine
        self._looking = looking
        self._parting = parting

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Tell until the page leaves or the owner ends."""
        head = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        with self._looking():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_when_left, receive, tasks.cancel_scope)
                tasks.start_soon(self._tell, send)
                await self._parting.came.wait()
                tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.move_on_after(1, shield=True):
            await send(_event("end", json.dumps({"why": self._parting.why})))
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: Any) -> None:
        engine = await self._engine()
        seen = 0.0
        async for status in engine.watch():
            news = await engine.history(seen)
            if not seen or news.changes or news.searches or news.minutes:
                await send(_event("news" if seen else "past", json.dumps(plain(news))))
            seen = news.at
            result = await anyio.to_thread.run_sync(StatusResult.of, status)
            await send(_event("status", result.model_dump_json()))


async def _when_left(receive: Any, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _event(name: str, data: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"event: {name}\ndata: {data}\n\n".encode(), "more_body": True}
