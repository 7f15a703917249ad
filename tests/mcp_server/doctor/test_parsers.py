"""Parsers and indexes, real and broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from findings import by_name, one

from indexer.errors import StoreError
from mcp_server.doctor.indexing import greeting_of, parser_findings
from mcp_server.doctor.machine import IndexContents, index_findings


@pytest.mark.slow
def test_a_real_parser_greets() -> None:
    finding = one(parser_findings(None, greeting_of))
    assert finding.verdict == "ok", finding
    assert sys.executable in finding.detail


def test_a_program_that_is_no_parser_is_told_with_its_own_words(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho 'No module named indexer' >&2\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    finding = one(parser_findings(str(fake), greeting_of))
    assert finding.verdict == "failure" and "No module named indexer" in finding.detail


def test_a_parser_may_be_missing_broken_or_incomplete(tmp_path: Path) -> None:
    assert one(parser_findings(str(tmp_path / "nothing"), greeting_of)).verdict == "failure"
    found = one(parser_findings(None, lambda launch: ({"missing": ["xberg"], "network": "blocked"}, "")))
    assert found.verdict == "failure" and found.remedy.endswith("-m pip install xberg")
    assert "said nothing" in one(parser_findings(None, lambda launch: (None, ""))).detail
    not_executable = tmp_path / "python"
    not_executable.write_bytes(b"\x7fELF nonsense")
    not_executable.chmod(0o755)
    assert "does not start" in one(parser_findings(str(not_executable), greeting_of)).detail


def look_and_fail(error: Exception) -> Any:
    def look(place: Path) -> IndexContents:
        raise error

    return look


def test_an_index_is_absent_whole_or_broken(tmp_path: Path) -> None:
    assert "none yet" in one(index_findings(tmp_path, look_and_fail(AssertionError()))).detail
    (tmp_path / "index" / "tables").mkdir(parents=True)
    assert (
        one(index_findings(tmp_path, lambda place: IndexContents(3, 9, 0, 5_000_000))).detail
        == "opens; 3 files, 9 chunks, 5 MB"
    )
    newer = one(index_findings(tmp_path, look_and_fail(StoreError("written by a newer folder-mcp", "newer_version"))))
    assert newer.verdict == "failure" and "upgrade" in newer.remedy
    assert (
        "pip install" in one(index_findings(tmp_path, look_and_fail(ImportError("No module named 'lancedb'")))).remedy
    )
    assert one(index_findings(tmp_path, look_and_fail(PermissionError(13, "Permission denied")))).verdict == "failure"
    (tmp_path / "index" / "damaged" / "20260101T000000").mkdir(parents=True)
    found = by_name(index_findings(tmp_path, lambda place: IndexContents(3, 9, 2, None)))
    assert found["index damage"].verdict == found["files"].verdict == "warning"
