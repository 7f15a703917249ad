from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes_engine import FakeEngine
from mcp import Client
from mcp.server import MCPServer

from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.application import create_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "keys.md").write_text(
        "# Vault\n\nRotate the signing key every March.\n\nThe signing key lives in the vault.\n", encoding="utf-8"
    )
    (folder / "bread.md").write_text("# Bread\n\nFlour, water, salt.\n", encoding="utf-8")
    return folder


@pytest.fixture
def engine(notes: Path) -> FakeEngine:
    engine = FakeEngine([str(notes)])
    engine.started = True
    return engine


@pytest.fixture
def context(engine: FakeEngine) -> ConnectionContext:
    return ConnectionContext(engine)


@pytest.fixture(scope="session")
def shared_server() -> tuple[MCPServer[ConnectionContext], list[ConnectionContext]]:
    """A server and what it lends to the next connection; making the schemas of its tools takes 60 ms."""
    lends: list[ConnectionContext] = []

    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield lends[-1]

    return create_server(source), lends


@pytest.fixture(params=["legacy", "auto"])
async def client(
    request: pytest.FixtureRequest,
    context: ConnectionContext,
    shared_server: tuple[MCPServer[ConnectionContext], list[ConnectionContext]],
) -> AsyncIterator[Client]:
    server, lends = shared_server
    lends[:] = [context]
    async with Client(server, mode=request.param) as client:
        yield client
