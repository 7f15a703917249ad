"""One engine however many connections; a server that outlives its engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from fakes_engine import FakeEngine, open_fake
from mcp import Client

from indexer.config import Config
from indexer.errors import ConfigError, FolderMcpError
from indexer.types import Query
from mcp_server.engine_port import EnginePort, Opener
from mcp_server.processes.in_process import Host, failed_engine
from mcp_server.protocol.application import create_server


class Counted:
    """An opener that counts what it opened and closed."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.started: anyio.Event | None = None

    @asynccontextmanager
    async def __call__(
        self, config: Config, *, start: anyio.Event | None = None, read_only: bool = False
    ) -> AsyncIterator[FakeEngine]:
        self.opened += 1
        self.started = start
        try:
            async with open_fake(config, start=start) as engine:
                yield engine
        finally:
            self.closed += 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path / "data")


async def test_connections_share_one_engine_which_closes_with_the_last(config: Config) -> None:
    opener = Counted()
    host = Host(config, opener)
    async with host.connect() as first:
        async with host.connect() as second:
            assert first.engine is second.engine
            assert first.engine.clients == 2  # type: ignore[attr-defined]
        assert (opener.opened, opener.closed) == (1, 0)
    assert (opener.opened, opener.closed) == (1, 1)
    async with host.connect():
        assert opener.opened == 2


async def test_the_first_connection_may_leave_before_the_others(config: Config) -> None:
    opener = Counted()
    host = Host(config, opener)
    leave, stay = anyio.Event(), anyio.Event()
    both = anyio.Event()

    async def first() -> None:
        async with host.connect():
            both.set()
            await leave.wait()
        stay.set()

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(5):
            await both.wait()
            async with host.connect() as context:
                leave.set()
                await stay.wait()
                assert opener.closed == 0
                assert context.engine.status().folders == ()
    assert opener.closed == 1


async def test_two_clients_of_one_server_share_one_engine(config: Config) -> None:
    opener = Counted()
    server = create_server(Host(config, opener).connect)
    async with Client(server, mode="legacy") as one, Client(server, mode="auto") as two:
        assert (await one.call_tool("status", {})).structured_content["owner"]["clients"] == 2
        assert not (await two.call_tool("status", {})).is_error
    assert (opener.opened, opener.closed) == (1, 1)


async def test_nothing_heavy_begins_before_the_first_answer(config: Config, notes: Path) -> None:
    opener, answered = Counted(), anyio.Event()
    host = Host(config, opener, folders=[str(notes)], answered=answered)
    async with host.connect() as context:
        await anyio.wait_all_tasks_blocked()
        assert opener.started is not None
        assert not opener.started.is_set()
        assert context.named
        answered.set()
        with anyio.fail_after(5):
            await opener.started.wait()
        assert context.folders == [str(notes)]
        assert len((await context.engine.search(Query("signing"))).hits) == 2


async def test_a_folder_that_cannot_be_indexed_is_a_notice(config: Config, notes: Path) -> None:
    answered = anyio.Event()
    answered.set()
    host = Host(config, Counted(), folders=[str(notes), "/nowhere/at/all"], answered=answered)
    async with host.connect() as context:
        with anyio.fail_after(5):
            await context.ready.wait()
        assert context.folders == [str(notes)]
        assert [notice.split()[0] for notice in context.notices] == ["/nowhere/at/all"]


async def test_a_wrong_configuration_becomes_an_answer() -> None:
    host = Host(ConfigError('config.toml: unknown key "x"'), Counted())
    async with Client(create_server(host.connect), mode="legacy") as client:
        status = await client.call_tool("status", {})
        assert 'unknown key "x"' in status.structured_content["owner"]["detail"]
        for tool, arguments in (("search", {"query": "a"}), ("read", {"path": "/a"})):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert 'unknown key "x"' in result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("moment", ["opening", "running"])
async def test_the_server_outlives_a_crash_of_its_engine(config: Config, moment: str) -> None:
    crash = anyio.Event()
    host = Host(config, crashing(moment, crash))
    async with Client(create_server(host.connect), mode="legacy") as client:
        crash.set()
        with anyio.fail_after(5):
            while True:
                result = await client.call_tool("status", {})
                if "ZeroDivisionError" in result.structured_content["owner"]["detail"]:
                    break
                await anyio.lowlevel.checkpoint()
        assert result.structured_content["services"] == {"keyword": "unavailable", "semantic": "unavailable"}
        assert (await client.call_tool("search", {"query": "a"})).is_error


async def test_an_index_that_cannot_be_opened_keeps_its_own_words(config: Config) -> None:
    @asynccontextmanager
    async def opener(config: Config, **_: object) -> AsyncIterator[FakeEngine]:
        async with anyio.create_task_group():
            raise FolderMcpError("the disk is full; free some space")
        yield FakeEngine()

    async with Host(config, opener).connect() as context:  # type: ignore[arg-type]
        assert context.engine.status().owner.detail == "the disk is full; free some space"


async def test_every_method_of_a_failed_engine_answers_or_says_why() -> None:
    engine = failed_engine(FolderMcpError("the disk is full; free some space"), "1.0.0", "/data")
    answers: dict[str, object] = {
        "status": engine.status().owner.detail,
        "watch": [status.index.last_error async for status in engine.watch()],
        "history": (await engine.history()).searches,
        "folders": engine.folders(),
    }
    with engine.connected() as answers["connected"]:
        pass
    why = "the disk is full; free some space"
    assert answers == {"status": why, "watch": [why], "history": (), "folders": (), "connected": None}
    refusing = {name for name in vars(EnginePort) if not name.startswith("_")} - set(answers)
    assert refusing == {"search", "read", "index", "add_folder", "remove_folder"}
    for name in refusing:
        with pytest.raises(FolderMcpError, match=why):
            await getattr(engine, name)("x")
    assert not hasattr(engine, "anything_else")


def crashing(moment: str, crash: anyio.Event) -> Opener:
    @asynccontextmanager
    async def opener(
        config: Config, *, start: anyio.Event | None = None, read_only: bool = False
    ) -> AsyncIterator[FakeEngine]:
        async def fail() -> None:
            await crash.wait()
            raise ZeroDivisionError("oh")

        if moment == "opening":
            raise ZeroDivisionError("oh")
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            yield FakeEngine(config=config)

    return opener
