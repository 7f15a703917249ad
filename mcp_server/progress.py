"""Progress events while a tool call waits, so that a client neither times out nor leaves its user guessing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from mcp.server.mcpserver import Context

from indexer.status_types import Status
from mcp_server.port import EnginePort

T = TypeVar("T")


async def reported(ctx: Context[Any], engine: EnginePort, doing: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do ``work`` and return its outcome; meanwhile tell the client what it waits for.

    The first event goes out at once, later ones when the engine's status changes. Costs nothing when the client
    did not ask for progress. Errors of ``work`` come out as they are, not in a group.
    """
    meta = ctx.request_context.meta
    if not meta or meta.get("progress_token") is None:
        return await work()
    outcome: list[T] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        await ctx.report_progress(0, None, doing)
        group.start_soon(_tell, ctx, engine, doing)
        try:
            outcome.append(await work())
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return outcome[0]


async def _tell(ctx: Context[Any], engine: EnginePort, doing: str) -> None:
    step, last = 0, doing
    async for status in engine.watch():
        message = what_is_awaited(status) or doing
        if message != last:
            step, last = step + 1, message
            await ctx.report_progress(step, None, message)


def what_is_awaited(status: Status) -> str:
    """Say what a search would wait for now; empty when nothing."""
    slot = status.slot
    if status.owner.state in ("uninitialized", "initializing"):
        return "the server is starting"
    if slot.state == "loading":
        return (
            f"loading the model {slot.model.name if slot.model else slot.requested}: {slot.stage} {slot.progress:.0%}"
        )
    if slot.state == "unloading":
        return "making room for the model"
    if slot.holder is not None and slot.holder.kind == "index":
        return "waiting for the running batch of indexing"
    return ""
