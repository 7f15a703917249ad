"""Parsers and indexes, real and broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from findings import by_name, one

from indexer.documents.confinement import LEFT_OUT, NOT_HERE, REFUSALS, STEPS
from indexer.documents.worker_process import Launch
from indexer.errors import StoreError
from mcp_server.doctor.indexing import confinement_findings, greeting_of, parser_findings
from mcp_server.doctor.machine import IndexContents, index_findings


@pytest.mark.slow
def test_a_real_parser_greets() -> None:
    found = by_name(parser_findings(None, greeting_of))
    assert found["parser"].verdict == "ok", found
    assert sys.executable in found["parser"].detail
    limits = {name: each for name, each in found.items() if name.startswith("parser limit, ")}
    if sys.platform == "linux":
        assert len(limits) == len(REFUSALS)
        assert all(bool(each.remedy) == (each.verdict == "warning") for each in limits.values())


def test_every_limit_that_does_not_hold_is_said_with_its_reason_and_what_to_do() -> None:
    old_kernel = {"reading": "this kernel offers no Landlock", "changes": "this kernel offers no Landlock"}
    found = by_name(confinement_findings({"refused": ["sockets"], "unavailable": old_kernel}))
    assert found["parser limit, sockets"].verdict == "ok"
    reading = found["parser limit, reading"]
    assert reading.verdict == "warning" and "can read a file of the user's" in reading.detail
    assert "reading: this kernel offers no Landlock" in reading.detail and "Landlock" in reading.remedy
    odd = by_name(confinement_findings({"refused": [], "unavailable": {"calls": "there is no list for riscv64"}}))
    assert "riscv64" in odd["parser limit, processes"].detail
    assert odd["parser limit, processes"].remedy == "nothing: this system offers no more"
    spoiled = by_name(confinement_findings({"refused": [], "unavailable": {"calls": LEFT_OUT}}))
    assert "update the packages" in spoiled["parser limit, sockets"].remedy


def test_a_system_without_such_limits_is_said_in_one_line() -> None:
    finding = one(confinement_findings({"refused": [], "unavailable": dict.fromkeys(STEPS, NOT_HERE)}))
    assert finding.verdict == "ok" and "its native code can" in finding.detail


def test_a_limit_that_a_library_does_not_bear_is_left_out_and_named() -> None:
    def greet(started: Launch) -> tuple[dict[str, Any], str]:
        left_out = started.command[started.command.index("--without") + 1] if "--without" in started.command else ""
        failing = [] if "calls" in left_out else ["xberg"]
        return {"failing": failing, "refused": [], "unavailable": {"calls": LEFT_OUT} if left_out else {}}, ""

    found = by_name(parser_findings(None, greet))
    assert found["parser"].verdict == "ok"
    assert "calls: left out" in found["parser limit, sockets"].detail
    never = by_name(parser_findings(None, lambda started: ({"failing": ["xberg"], "refused": REFUSALS}, "")))
    assert never["parser"].verdict == "failure" and "xberg" in never["parser"].remedy


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
