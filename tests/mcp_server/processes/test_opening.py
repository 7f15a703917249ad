"""Where a process finds an engine: its own where nobody owns the data directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.config import Config
from mcp_server.processes.open_engine import open_alone, open_here_or_there
from mcp_server.processes.owner_lock import OwnerFiles, OwnerLock, is_held, owner_files_for
from mcp_server.state_files import read_state


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path / "data")


@pytest.fixture
def ours(config: Config) -> Iterator[OwnerFiles]:
    owner_files = owner_files_for(str(config.data_dir))
    yield owner_files
    shutil.rmtree(owner_files.directory)


@pytest.mark.parametrize("opener", [open_alone, open_here_or_there])
async def test_whoever_opens_alone_owns_the_data_directory_for_as_long(
    config: Config, ours: OwnerFiles, opener: type
) -> None:
    async with opener(config) as engine:
        async for status in engine.watch():
            if status.owner.state == "serving":
                break
        assert is_held(ours)
        assert read_state(ours.state_file) == {"pid": os.getpid(), "version": status.owner.version, "endpoint": None}
    assert not is_held(ours)


@pytest.mark.slow
async def test_beside_another_owner_the_engine_only_reads(config: Config, ours: OwnerFiles) -> None:
    async with open_alone(config) as first:
        async for status in first.watch():
            if status.owner.state == "serving":
                break
        async with open_alone(config) as second:
            async for status in second.watch():
                if status.owner.state != "initializing" and status.owner.state != "uninitialized":
                    break
            assert status.owner.state == "read_only"
        assert is_held(ours)


async def test_a_claim_that_cannot_be_noted_is_given_back(
    config: Config, ours: OwnerFiles, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkdir(ours.state_file)
    async with open_alone(config):
        assert not is_held(ours)
        with OwnerLock(ours) as other:
            assert other.acquire()
    assert "cannot be claimed" in caplog.text
