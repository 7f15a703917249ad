"""Our server with the suite's fixtures, on HTTP and loopback, as a process: prints its address and serves."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(HERE)]

import anyio  # noqa: E402
import uvicorn  # noqa: E402
from fakes_engine import FakeEngine  # noqa: E402
from fixtures import mount  # noqa: E402
from mcp.server import MCPServer  # noqa: E402
from mcp.server.transport_security import TransportSecuritySettings  # noqa: E402
from mcp.types import EmptyResult, SetLevelRequestParams  # noqa: E402

from mcp_server.engine_port import ConnectionContext  # noqa: E402
from mcp_server.processes.http import PATH, bind_http  # noqa: E402
from mcp_server.protocol.application import create_server  # noqa: E402
from mcp_server.protocol.arguments import ArgumentMiddleware  # noqa: E402


def build(folder: str) -> MCPServer[ConnectionContext]:
    """Our server over one folder, with the fixtures."""

    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        engine = FakeEngine([folder])
        engine.started = True
        yield ConnectionContext(engine)

    server = create_server(source)
    known: Any = next(part for part in server._extensions if isinstance(part, ArgumentMiddleware))._tools
    for name in mount(server):
        known[name] = server._tool_manager.get_tool(name)

    async def set_level(ctx: object, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    return server


async def main(folder: str) -> None:
    bound, _, hosts = bind_http("127.0.0.1:0", Path(folder), hosts=(), certificate=None, allow_remote=False)
    origins = [f"http://{host}" for host in hosts]
    security = TransportSecuritySettings(allowed_hosts=list(hosts), allowed_origins=origins)
    app = build(folder).streamable_http_app(transport_security=security)
    running = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    running.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    print(f"http://127.0.0.1:{bound.getsockname()[1]}{PATH}", flush=True)
    await running.serve([bound])


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
