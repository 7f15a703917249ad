"""The engine of another process: each method of the port, asked over a real connection, answers as the engine does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fakes_engine import FakeEngine

from indexer.config import Config
from indexer.errors import FolderError, FolderMcpError, QueryError
from indexer.folders.registry import KnownFolder
from indexer.types import Query, Scope
from mcp_server.engine_port import EnginePort, method_types
from mcp_server.processes.connections import listen
from mcp_server.processes.handshake import dial
from mcp_server.processes.owner import Owner
from mcp_server.processes.owner_lock import Location, OwnerFiles, OwnerLock
from mcp_server.processes.remote_engine import RemoteEngine

METHODS = sorted(name for name in vars(EnginePort) if not name.startswith("_"))


@asynccontextmanager
async def remote(engine: FakeEngine, owner_files: OwnerFiles, data: Path) -> AsyncIterator[RemoteEngine]:
    """The engine, through an owner that serves it in this process."""

    @asynccontextmanager
    async def opener(config: Config, **_: object) -> AsyncIterator[FakeEngine]:
        yield engine

    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        owner = Owner(Location("", str(data), ""), Config(data_dir=data), owner_files, lock, opener)
        ready = anyio.Event()
        connector: Any = SimpleNamespace(dial=partial(dial, owner_files))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(owner.run, listen(owner_files, "i" * 8), ready.set)
                await ready.wait()
                yield RemoteEngine(connector, start=False)
                owner.end("seen")


async def test_every_method_answers_as_the_engine_itself(
    engine: FakeEngine, notes: Path, owner_files: OwnerFiles, tmp_path: Path
) -> None:
    asked: set[str] = set()
    async with remote(engine, owner_files, tmp_path) as there:
        query = Query("signing key", 3, scope=Scope(folders=(str(notes),), suffixes=("md",)))
        path = str(notes / "keys.md")
        assert (await there.search(query)).hits == (await engine.search(query)).hits != ()
        assert engine.asked[0] == query
        assert await there.read(path, "lines 3-3", max_chars=900) == await engine.read(path, "lines 3-3")
        for verbose in (False, True):
            seen = await anyio.to_thread.run_sync(partial(there.status, verbose=verbose))
            assert seen == replace(engine.status(verbose=verbose), at=seen.at)
        assert await anyio.to_thread.run_sync(there.folders) == engine.folders() == (KnownFolder(str(notes)),)
        assert (await there.history(5.0)).since == (await engine.history()).since
        assert await there.index([str(notes)]) == await engine.index([str(notes)])
        assert await there.index() == await engine.index()
        other = tmp_path / "other"
        other.mkdir()
        assert await there.add_folder(str(other), "bge-m3") == KnownFolder(str(other), "bge-m3")
        assert await there.remove_folder(str(other)) == str(other)
        async for status in there.watch():
            assert status == replace(engine.status(), at=status.at)
            break
        asked |= {"search", "read", "status", "folders", "history", "index", "add_folder", "remove_folder", "watch"}
    with there.connected():
        asked.add("connected")
    assert sorted(asked) == METHODS


async def test_errors_of_the_engine_are_raised_again_with_their_kind(
    engine: FakeEngine, owner_files: OwnerFiles, tmp_path: Path
) -> None:
    async with remote(engine, owner_files, tmp_path) as there:
        with pytest.raises(QueryError, match="is not an indexed file"):
            await there.read("/nowhere")
        with pytest.raises(FolderError, match="does not exist"):
            await there.add_folder("/nowhere")


async def test_a_folder_that_another_process_remembered_is_taken_up_by_an_index_run(
    engine: FakeEngine, owner_files: OwnerFiles, tmp_path: Path
) -> None:
    async with remote(engine, owner_files, tmp_path) as there:
        report = await there.index([str(tmp_path)])
    assert report.folders == (str(tmp_path),)


async def test_what_is_no_method_of_the_port_is_refused(
    engine: FakeEngine, owner_files: OwnerFiles, tmp_path: Path
) -> None:
    async with remote(engine, owner_files, tmp_path) as there:
        for name in ("change", "connected", "__init__", "nothing"):
            with pytest.raises(FolderMcpError, match="does not know how to"):
                await there._result(name, {})


def test_the_types_of_every_method_are_known_but_of_the_one_that_does_not_travel() -> None:
    assert [name for name in METHODS if "return" not in method_types(name)] == ["connected"]
