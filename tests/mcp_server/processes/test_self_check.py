"""Whether an owner is still the one behind its own address."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketListener, SocketStream

from indexer.errors import ConfigError
from mcp_server.processes.connections import accept_handshake, listen
from mcp_server.processes.owner import SelfCheck, configuration
from mcp_server.processes.owner_lock import Location, OwnerFiles, OwnerLock, locate
from mcp_server.state_files import read_state, write_state


@pytest.fixture
def location(tmp_path: Path) -> Location:
    file = tmp_path / "config.toml"
    file.write_text("[search]\nwait = 5\n", encoding="utf-8")
    return locate(str(file), str(tmp_path / "data"), {})


@asynccontextmanager
async def answering(owner_files: OwnerFiles, instance: str, number: str = "0") -> AsyncIterator[dict[str, object]]:
    """Somebody who says hello as an owner does; yields the endpoint."""
    address = listen(owner_files, number * 16)
    listener = await SocketListener.from_socket(address.socket)

    async def receive(stream: SocketStream) -> None:
        async with stream:
            await accept_handshake(stream, address, {"instance": instance})

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receive)
        yield address.endpoint
        tasks.cancel_scope.cancel()
    address.unlink()


async def test_an_owner_behind_its_address_stays(owner_files: OwnerFiles, location: Location) -> None:
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        check = SelfCheck(location, configuration(location), owner_files, lock)
        async with answering(owner_files, check.instance) as endpoint:
            assert await anyio.to_thread.run_sync(check.is_itself, endpoint)
            check.write_state(endpoint)
            assert await anyio.to_thread.run_sync(check.is_itself)
            assert read_state(owner_files.state_file)["pid"] == os.getpid()


async def test_an_owner_with_another_behind_its_address_does_not(owner_files: OwnerFiles, location: Location) -> None:
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        check = SelfCheck(location, configuration(location), owner_files, lock)
        async with answering(owner_files, "somebody else") as endpoint:
            check.write_state(endpoint)
            assert not await anyio.to_thread.run_sync(check.is_itself)
        assert not await anyio.to_thread.run_sync(check.is_itself)


async def test_an_owner_whose_lock_was_replaced_does_not(owner_files: OwnerFiles, location: Location) -> None:
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        check = SelfCheck(location, configuration(location), owner_files, lock)
        async with answering(owner_files, check.instance) as endpoint:
            check.write_state(endpoint)
            Path(owner_files.lock_file).unlink()
            assert not await anyio.to_thread.run_sync(check.is_itself)


async def test_an_owner_whose_note_names_another_does_not(owner_files: OwnerFiles, location: Location) -> None:
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        check = SelfCheck(location, configuration(location), owner_files, lock)
        async with answering(owner_files, check.instance) as ours, answering(owner_files, "other", "1") as theirs:
            write_state(owner_files.state_file, {"endpoint": theirs})
            assert ours != theirs
            assert not await anyio.to_thread.run_sync(check.is_itself)


def test_a_changed_configuration_is_noticed_and_a_wrong_one_told(owner_files: OwnerFiles, location: Location) -> None:
    file = Path(location.config)
    check = SelfCheck(location, configuration(location), owner_files, OwnerLock(owner_files))
    assert not check.changed_config()
    file.write_text("# only a remark\n[search]\nwait = 5\n", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert not check.changed_config()
    file.write_text("[search]\nwait = 6\n", encoding="utf-8")
    os.utime(file, ns=(2, 2))
    assert check.changed_config()
    file.write_text("[search]\nwiat = 6\n", encoding="utf-8")
    os.utime(file, ns=(3, 3))
    with pytest.raises(ConfigError, match="did you mean"):
        check.changed_config()
    assert not check.changed_config()  # told once


def test_files_of_an_owner_look_used(owner_files: OwnerFiles, location: Location) -> None:
    write_state(owner_files.state_file, {})
    os.utime(owner_files.state_file, (1, 1))
    SelfCheck(location, configuration(location), owner_files, OwnerLock(owner_files)).touch()
    assert os.stat(owner_files.state_file).st_mtime > 1
