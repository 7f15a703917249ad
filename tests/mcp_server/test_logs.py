from __future__ import annotations

import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server import logs


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_warnings_go_to_stderr_in_one_line_and_everything_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = logs.configure(tmp_path / "data" / "logs")
    assert path is not None
    log = logging.getLogger("test")
    log.info("a detail")
    try:
        raise KeyError("inside")
    except KeyError:
        log.exception("it\nfailed")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "folder-mcp: it failed\n"
    written = path.read_text(encoding="utf-8")
    assert "a detail" in written
    assert "KeyError: 'inside'" in written


def test_the_data_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    logs.configure(tmp_path / "data" / "logs")
    for path in (tmp_path / "data", tmp_path / "data" / "logs"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_log_folder_that_cannot_be_made_is_said_and_survived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert logs.configure(tmp_path / "file" / "logs") is None
    assert "no log file" in capsys.readouterr().err


def test_configuring_twice_writes_once(tmp_path: Path) -> None:
    logs.configure(tmp_path / "a" / "logs")
    path = logs.configure(tmp_path / "b" / "logs")
    assert path is not None
    logging.getLogger("test").warning("once")
    assert path.read_text(encoding="utf-8").count("once") == 1
    assert sys.stderr is not None
