from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes_engine import FakeEngine
from mcp import Client

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


@pytest.fixture(params=["legacy", "auto"])
async def client(request: pytest.FixtureRequest, lent: Lent) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[Lent]:
        yield lent

    async with Client(create_server(source), mode=request.param) as client:
        yield client
