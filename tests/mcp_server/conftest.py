from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes_engine import FakeEngine
from mcp import Client
from mcp.server import MCPServer

from mcp_server.application import create_server
from mcp_server.port import Lent


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
def lent(engine: FakeEngine) -> Lent:
    return Lent(engine)


@pytest.fixture(scope="session")
def shared_server() -> tuple[MCPServer[Lent], list[Lent]]:
    """A server and what it lends to the next connection; making the schemas of its tools takes 60 ms."""
    lends: list[Lent] = []

    @asynccontextmanager
    async def source() -> AsyncIterator[Lent]:
        yield lends[-1]

    return create_server(source), lends


@pytest.fixture(params=["legacy", "auto"])
async def client(
    request: pytest.FixtureRequest, lent: Lent, shared_server: tuple[MCPServer[Lent], list[Lent]]
) -> AsyncIterator[Client]:
    server, lends = shared_server
    lends[:] = [lent]
    async with Client(server, mode=request.param) as client:
        yield client
