"""The owner's life, in this process with a small real engine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from fakes_engine import FakeEngine

from indexer.config import Config, OwnerSettings
from mcp_server.engine_port import CompleteOwner
from mcp_server.processes.connections import listen
from mcp_server.processes.handshake import LineSocket, OwnerNotFound, dial, handshake_request
from mcp_server.processes.owner import Owner, configuration
from mcp_server.processes.owner_lock import Location, OwnerFiles, OwnerLock, locate


@asynccontextmanager
async def opener(
    config: Config, *, start: anyio.Event, on_wedged: Callable[[str], None], complete_owner: CompleteOwner
) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    engine.started = True
    engine.complete_owner = complete_owner
    yield engine


def owner(owner_files: OwnerFiles, lock: OwnerLock, tmp_path: Path, settings: OwnerSettings) -> Owner:
    assert lock.acquire()
    config = Config(data_dir=tmp_path, owner=settings)
    return Owner(Location("", str(tmp_path), ""), config, owner_files, lock, opener)


async def lived(one: Owner, owner_files: OwnerFiles, meanwhile: Callable[[], Awaitable[None]]) -> int:
    """The exit code of an owner's life, in which something is done as soon as it is ready."""
    ready = anyio.Event()

    async def do() -> None:
        await ready.wait()
        await meanwhile()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(do)
            return await one.run(listen(owner_files, "i" * 8), ready.set)
    raise AssertionError


@pytest.mark.slow
async def test_looking_whether_it_is_there_does_not_keep_an_owner_alive(
    owner_files: OwnerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at itself once a minute: that must not count as use."""
    monkeypatch.setattr("mcp_server.processes.owner.TICK", 0.1)
    ended: list[int] = []
    with OwnerLock(owner_files) as lock:
        one = owner(owner_files, lock, tmp_path, OwnerSettings(idle_exit=0.5))

        async def live() -> None:
            ended.append(await one.run(listen(owner_files, "i" * 8), lambda: None))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(live)
                looked = 0
                while not ended:
                    try:
                        line, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("check"), 5.0)
                    except OwnerNotFound:
                        await anyio.lowlevel.checkpoint()
                    else:
                        looked += 1
                        line.close()
    assert ended == [0]
    assert looked > 1


async def test_a_wedged_slot_ends_the_owner_with_its_own_code(owner_files: OwnerFiles, tmp_path: Path) -> None:
    wedge: list[Callable[[str], None]] = []

    @asynccontextmanager
    async def catching(config: Config, *, on_wedged: Any, **_: object) -> AsyncIterator[FakeEngine]:
        wedge.append(on_wedged)
        yield FakeEngine()

    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        config = Config(data_dir=tmp_path)
        one = Owner(Location("", str(tmp_path), ""), config, owner_files, lock, catching)

        async def wedge_when_open() -> None:
            line, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("control"), 5.0)
            line.send({"id": 1, "do": "status"})
            assert "result" in await anyio.to_thread.run_sync(line.receive)
            line.close()
            wedge[0]("stuck")

        assert await lived(one, owner_files, wedge_when_open) == 75


@pytest.mark.parametrize("what", ["configuration", "lock"])
async def test_what_an_owner_finds_when_it_looks_ends_it(
    what: str, owner_files: OwnerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.processes.owner.CHECK", 0.05)  # a minute is long
    file = tmp_path / "config.toml"
    file.write_text("[search]\nwait = 5\n", encoding="utf-8")
    location = locate(str(file), str(tmp_path / "data"), {})
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        one = Owner(location, configuration(location), owner_files, lock, opener)

        def change() -> None:
            if what == "configuration":
                file.write_text("[search]\nwait = 6\n", encoding="utf-8")
                os.utime(file, ns=(1, 1))
            else:
                Path(owner_files.lock_file).unlink()

        with anyio.fail_after(30):
            assert await one.run(listen(owner_files, "i" * 8), change) == 0
    assert one.start_successor is (what == "configuration")


async def test_a_wrong_change_of_the_configuration_is_told_and_not_used(
    owner_files: OwnerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.processes.owner.CHECK", 0.05)
    file = tmp_path / "config.toml"
    file.write_text("[search]\nwait = 5\n", encoding="utf-8")
    location = locate(str(file), str(tmp_path / "data"), {})
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        one = Owner(location, configuration(location), owner_files, lock, opener)

        async def spoil() -> None:
            line, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("control"), 5.0)
            line.send({"id": 1, "do": "watch"})
            await anyio.to_thread.run_sync(line.receive)  # the engine is open
            file.write_text("[search]\nwiat = 6\n", encoding="utf-8")
            os.utime(file, ns=(1, 1))
            detail, number = "", 1
            while "wiat" not in detail:
                number += 1
                line.send({"id": number, "do": "status"})
                said: dict[str, Any] = {}
                while said.get("id") != number:
                    said = await anyio.to_thread.run_sync(line.receive)
                detail = said["result"]["owner"]["detail"]
            assert "not in use" in detail
            line.close()
            one.end("seen")

        assert await lived(one, owner_files, spoil) == 0
    assert not one.start_successor


async def test_an_engine_that_has_ended_is_replaced_for_the_connections_that_are_open(
    owner_files: OwnerFiles, tmp_path: Path
) -> None:
    crash = anyio.Event()

    async def fail() -> None:
        await crash.wait()
        raise ZeroDivisionError("oh")

    @asynccontextmanager
    async def crashing(config: Config, **given: Any) -> AsyncIterator[FakeEngine]:
        async with opener(config, **given) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            yield engine

    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        one = Owner(Location("", str(tmp_path), ""), Config(data_dir=tmp_path), owner_files, lock, crashing)

        async def ask() -> None:
            client, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("client"), 5.0)
            info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            await answered(client, "initialize", **info)
            client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

            async def called(tool: str, **arguments: object) -> dict[str, Any]:
                found: dict[str, Any] = await answered(client, "tools/call", name=tool, arguments=arguments)
                return found

            status = (await called("status"))["structuredContent"]["owner"]
            assert (status["state"], status["clients"], len(status["relays"])) == ("serving", 1, 1)
            assert not (await called("search", query="a")).get("isError")
            crash.set()
            while "ZeroDivisionError" not in status["detail"]:
                status = (await called("status"))["structuredContent"]["owner"]
            assert (status["state"], status["clients"], len(status["relays"])) == ("uninitialized", 1, 1)
            refused = await called("search", query="a")
            assert refused["isError"] and "ZeroDivisionError" in refused["content"][0]["text"]
            control, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("control"), 5.0)
            control.send({"id": 1, "do": "index", "with": {"folders": None}})
            assert "ZeroDivisionError" in (await anyio.to_thread.run_sync(control.receive))["error"]["text"]
            control.close()
            client.close()
            one.end("seen")

        assert await lived(one, owner_files, ask) == 0


async def answered(line: LineSocket, method: str, **params: Any) -> Any:
    line.send({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
    while True:
        said = await anyio.to_thread.run_sync(line.receive)
        if said.get("id") == method:
            return said["result"]
