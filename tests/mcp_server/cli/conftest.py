"""The command line in this process, with the fake engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes_engine import open_fake

from mcp_server.cli import main

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, quiet_root_logger: None) -> Run:
    def run(*argv: str) -> int:
        environ = {"HOME": str(tmp_path), "FOLDER_MCP_DATA_DIR": str(tmp_path / "data")}
        try:
            return main.main(argv, environ, open_fake)
        except SystemExit as ended:
            return int(ended.code or 0)

    return run


@pytest.fixture
def quiet_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in before:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
