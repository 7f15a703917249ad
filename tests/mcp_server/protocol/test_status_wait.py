"""``folder-mcp status --wait``: real engines, whose model loads, fails or is never asked for."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from engines import ask, engine_over, settings
from fakes import FakeLoader

from indexer.config import Config
from indexer.engine import Engine, open_engine
from indexer.folders.model_availability import ModelResolver
from indexer.folders.registry import add_folder
from mcp_server.cli import main


@pytest.fixture(autouse=True)
def quiet_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def opener(loader: FakeLoader, *, search: bool) -> Any:
    """Opens a real engine with a model that is not; with ``search`` somebody searches meanwhile."""

    @asynccontextmanager
    async def opened(
        config: Config, *, start: anyio.Event | None = None, read_only: bool = False
    ) -> AsyncIterator[Engine]:
        plain = settings(config.data_dir)
        async with (
            open_engine(plain, version="test", loader=loader, start=start, read_only=read_only) as engine,
            anyio.create_task_group() as clients,
        ):
            if search:
                clients.start_soon(ask, engine, "signing key")
            yield engine
            clients.cancel_scope.cancel()

    return opened


def wait(data: Path, state: str, loader: FakeLoader, *, search: bool = False, timeout: float = 30.0) -> int:
    argv = ["--data-dir", str(data), "status", "--wait", state, "--timeout", str(timeout)]
    return main.main(argv, {"HOME": str(data), "FOLDER_MCP_DATA_DIR": str(data)}, opener(loader, search=search))


def indexed(data: Path, notes: Path) -> None:
    async def index() -> None:
        async with engine_over(data, notes) as engine:
            assert (await engine.index()).complete

    anyio.run(index)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", "keyword", "semantic", "indexed"])
def test_what_is_so_is_not_waited_for(tmp_path: Path, notes: Path, state: str) -> None:
    indexed(tmp_path / "data", notes)
    loader = FakeLoader()
    assert wait(tmp_path / "data", state, loader) == 0
    assert loader.loads == []


@pytest.mark.slow
def test_ready_comes_when_somebody_searches(tmp_path: Path, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    indexed(tmp_path / "data", notes)
    assert wait(tmp_path / "data", "ready", FakeLoader(), search=True) == 0
    assert "Model slot: ready all-MiniLM-L6-v2" in capsys.readouterr().out


@pytest.mark.slow
def test_ready_does_not_come_by_itself_and_the_time_ends(
    tmp_path: Path, notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    indexed(tmp_path / "data", notes)
    assert wait(tmp_path / "data", "ready", FakeLoader(), timeout=0.5) == 1
    captured = capsys.readouterr()
    assert "ready was not reached within 0.5 s" in captured.err
    assert "Model slot: idle" in captured.out


@pytest.mark.slow
def test_waiting_for_indexed_does_the_indexing(tmp_path: Path, notes: Path) -> None:
    add_folder(settings(tmp_path / "data"), str(notes))
    loader = FakeLoader()
    assert wait(tmp_path / "data", "indexed", loader) == 0
    assert loader.loads == ["all-MiniLM-L6-v2"]


@pytest.mark.slow
def test_error_comes_when_the_model_cannot_be_loaded(
    tmp_path: Path, notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path / "data")
    add_folder(config, str(notes))
    spec = ModelResolver(config).for_folder(None).spec
    assert spec is not None
    loader = FakeLoader()
    loader.failures[spec.key] = [PermissionError(13, "Permission denied") for _ in range(9)]
    assert wait(tmp_path / "data", "error", loader) == 0
    assert "Permission denied" in capsys.readouterr().out
    assert wait(tmp_path / "data", "semantic", FakeLoader(), timeout=30) == 0
