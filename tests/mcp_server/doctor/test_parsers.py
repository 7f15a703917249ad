"""Parsers and indexes, real and broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from findings import by_name, one

from indexer.errors import StoreError
from mcp_server.doctor.contents import Contents, greeting_of, index, parser


def test_a_real_parser_greets() -> None:
    finding = one(parser(None, greeting_of))
    assert finding.verdict == "ok", finding
    assert sys.executable in finding.detail


def test_a_program_that_is_no_parser_is_told_with_its_own_words(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho 'No module named indexer' >&2\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    finding = one(parser(str(fake), greeting_of))
    assert finding.verdict == "failure" and "No module named indexer" in finding.detail


def test_a_parser_may_be_missing_broken_or_incomplete(tmp_path: Path) -> None:
    assert one(parser(str(tmp_path / "nothing"), greeting_of)).verdict == "failure"
    found = one(parser(None, lambda launch: ({"missing": ["xberg"], "network": "blocked"}, "")))
    assert found.verdict == "failure" and found.remedy.endswith("-m pip install xberg")
    assert "said nothing" in one(parser(None, lambda launch: (None, ""))).detail
    not_executable = tmp_path / "python"
    not_executable.write_bytes(b"\x7fELF nonsense")
    not_executable.chmod(0o755)
    assert "does not start" in one(parser(str(not_executable), greeting_of)).detail


def look_and_fail(error: Exception) -> Any:
    def look(place: Path) -> Contents:
        raise error

    return look


def test_an_index_is_absent_whole_or_broken(tmp_path: Path) -> None:
    assert "none yet" in one(index(tmp_path, look_and_fail(AssertionError()))).detail
    (tmp_path / "index" / "tables").mkdir(parents=True)
    assert one(index(tmp_path, lambda place: Contents(3, 9, 0, 5_000_000))).detail == "opens; 3 files, 9 chunks, 5 MB"
    newer = one(index(tmp_path, look_and_fail(StoreError("written by a newer folder-mcp", "newer_version"))))
    assert newer.verdict == "failure" and "upgrade" in newer.remedy
    assert "pip install" in one(index(tmp_path, look_and_fail(ImportError("No module named 'lancedb'")))).remedy
    assert one(index(tmp_path, look_and_fail(PermissionError(13, "Permission denied")))).verdict == "failure"
    (tmp_path / "index" / "damaged" / "20260101T000000").mkdir(parents=True)
    found = by_name(index(tmp_path, lambda place: Contents(3, 9, 2, None)))
    assert found["index damage"].verdict == found["files"].verdict == "warning"
