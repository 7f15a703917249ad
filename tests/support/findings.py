"""For tests of the doctor: findings taken apart."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.doctor.checks import Finding

LOCAL = [("/", "ext4")]
"""A mount table with nothing but a local disk."""


def one(found: Iterable[Finding]) -> Finding:
    """The only finding, which has a remedy if and only if something is to be done."""
    (finding,) = found
    assert bool(finding.remedy) == (finding.verdict != "ok"), finding
    assert "\n" not in finding.detail + finding.remedy
    return finding


def by_name(found: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}
