"""Who may see one folder sees nothing of another: every tool, argument, page and error, against the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engines import engine_over, settings
from fakes import FakeLoader
from mcp import Client
from two_owners import Matrix, Person, searches, try_everything, try_protocol, write_both

from indexer.engine import Engine, open_engine
from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.application import create_server

pytestmark = pytest.mark.slow


def limited(engine: Engine, *folders: Path) -> ConnectionContext:
    """A connection of ``serve FOLDER --only``, its folders registered."""
    context = ConnectionContext(engine, named=True, only=True, limits=tuple(map(str, folders)))
    context.ready.set()
    return context


@asynccontextmanager
async def connected(context: ConnectionContext, mode: Any, heard: list[str]) -> AsyncIterator[Client]:
    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield context

    async def hear(message: object) -> None:
        heard.append(repr(message))

    async with Client(create_server(source), mode=mode, message_handler=hear) as client:
        yield client


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_no_try_of_three_users_shows_anything_of_the_others(tmp_path: Path, mode: str) -> None:
    one, two = write_both(tmp_path)
    users = [(one.root, two), (two.root, one)]
    if mode == "auto":  # a part of the second folder: all else of that is the other's too
        rest = Person(two.root, two.asked, ("birchnote", "birchsheet", "birchpage"), ("plan.md", "birchnote03.md"))
        users = [(two.root / "bircharchive" / "deep", rest)]
    tries = hits = 0
    async with open_engine(settings(tmp_path / "data"), version="test", loader=FakeLoader()) as engine:
        await engine.add_folder(str(one.root))
        await engine.add_folder(str(two.root))
        await engine.index()
        for own, other in users:
            heard: list[str] = []
            async with connected(limited(engine, own), mode, heard) as client:
                matrix = Matrix(client, other.never_asked, (str(own),), heard)
                await try_everything(matrix, own, other)
            assert matrix.leaks == []
            tries, hits = tries + matrix.tries, hits + matrix.hits
    print(f"{tries} tries, {hits} hits of the users' own")
    assert tries >= 1000
    assert hits > 100, "where nothing is ever found, nothing is shown"


async def test_the_same_tries_without_limits_show_the_other_folder(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        heard: list[str] = []
        async with connected(ConnectionContext(engine), "legacy", heard) as client:
            matrix = Matrix(client, two.never_asked, (str(one.root),), heard)
            schema = next(t.input_schema for t in (await client.list_tools()).tools if t.name == "search")
            for arguments in [*searches(one.root, two, schema)][::9]:
                await matrix.call("search", **arguments)
            await matrix.call("read", path=str(two.root / "plan.md"))
            await matrix.call("status")
            await try_protocol(matrix, two)
    assert len(matrix.leaks) > matrix.tries / 2
