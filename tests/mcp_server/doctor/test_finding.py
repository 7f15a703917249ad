"""The boundary around every check."""

from __future__ import annotations

from typing import Any

from mcp_server.doctor.checks import Finding, examine


def test_a_check_that_dies_is_a_failure_and_takes_no_other_with_it() -> None:
    def dies() -> Any:
        yield Finding("first half", "ok", "well")
        raise ZeroDivisionError("oh")

    def lacks() -> Any:
        raise ModuleNotFoundError("No module named 'psutil'")

    found = list(examine([("one", dies), ("two", lacks), ("three", lambda: [Finding("three", "ok", "well")])]))
    assert [finding.name for finding in found] == ["first half", "one", "two", "three"]
    assert [finding.verdict for finding in found] == ["ok", "failure", "failure", "ok"]
    assert found[1].detail == "could not be looked at: ZeroDivisionError: oh"
    assert "install folder-mcp again" in found[2].remedy
