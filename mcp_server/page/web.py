"""The web server behind the page."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio


async def serve_web(app: Any, listening: socket.socket, over: Callable[[], Awaitable[None]]) -> None:
    """Serve an application on a socket, which is closed then, until ``over`` returns or the task is cancelled."""
    import uvicorn  # noqa: PLC0415 - not before a browser is there

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # signals are the owner's

    async def end() -> None:
        try:
            await over()
        finally:
            server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        with anyio.CancelScope(shield=True):  # it sees ``should_exit``, and closes what it has opened
            await server.serve([listening])
        tasks.cancel_scope.cancel()
