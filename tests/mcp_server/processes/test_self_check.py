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
from mcp_server.processes.connections import listen, welcome
from mcp_server.processes.owner import SelfCheck, configuration
from mcp_server.processes.owner_lock import Location, OwnerLock, Place, locate
from mcp_server.state_files import read_state, write_state


@pytest.fixture
def location(tmp_path: Path) -> Location:
    file = tmp_path / "config.toml"
    file.write_text("[search]\nwait = 5\n", encoding="utf-8")
    return locate(str(file), str(tmp_path / "data"), {})


@asynccontextmanager
async def answering(place: Place, instance: str, number: str = "0") -> AsyncIterator[dict[str, object]]:
    """Somebody who says hello as an owner does; yields the endpoint."""
    address = listen(place, number * 16)
    listener = await SocketListener.from_socket(address.socket)

    async def receive(stream: SocketStream) -> None:
        async with stream:
            await welcome(stream, address, {"instance": instance})

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receive)
        yield address.endpoint
        tasks.cancel_scope.cancel()
    address.forget()


async def test_an_owner_behind_its_address_stays(place: Place, location: Location) -> None:
    with OwnerLock(place) as claim:
        assert claim.take()
        check = SelfCheck(location, configuration(location), place, claim)
        async with answering(place, check.instance) as endpoint:
            assert await anyio.to_thread.run_sync(check.is_itself, endpoint)
            check.write_note(endpoint)
            assert await anyio.to_thread.run_sync(check.is_itself)
            assert read_state(place.note)["pid"] == os.getpid()


async def test_an_owner_with_another_behind_its_address_does_not(place: Place, location: Location) -> None:
    with OwnerLock(place) as claim:
        assert claim.take()
        check = SelfCheck(location, configuration(location), place, claim)
        async with answering(place, "somebody else") as endpoint:
            check.write_note(endpoint)
            assert not await anyio.to_thread.run_sync(check.is_itself)
        assert not await anyio.to_thread.run_sync(check.is_itself)


async def test_an_owner_whose_lock_was_replaced_does_not(place: Place, location: Location) -> None:
    with OwnerLock(place) as claim:
        assert claim.take()
        check = SelfCheck(location, configuration(location), place, claim)
        async with answering(place, check.instance) as endpoint:
            check.write_note(endpoint)
            Path(place.lock).unlink()
            assert not await anyio.to_thread.run_sync(check.is_itself)


async def test_an_owner_whose_note_names_another_does_not(place: Place, location: Location) -> None:
    with OwnerLock(place) as claim:
        assert claim.take()
        check = SelfCheck(location, configuration(location), place, claim)
        async with answering(place, check.instance) as ours, answering(place, "other", "1") as theirs:
            write_state(place.note, {"endpoint": theirs})
            assert ours != theirs
            assert not await anyio.to_thread.run_sync(check.is_itself)


def test_a_changed_configuration_is_noticed_and_a_wrong_one_told(place: Place, location: Location) -> None:
    file = Path(location.config)
    check = SelfCheck(location, configuration(location), place, OwnerLock(place))
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


def test_files_of_an_owner_look_used(place: Place, location: Location) -> None:
    write_state(place.note, {})
    os.utime(place.note, (1, 1))
    SelfCheck(location, configuration(location), place, OwnerLock(place)).touch()
    assert os.stat(place.note).st_mtime > 1
