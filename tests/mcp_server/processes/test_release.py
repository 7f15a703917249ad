from __future__ import annotations

import pytest

from mcp_server.processes.release import newer, release
from mcp_server.version import version


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("0.2.0", "0.1.0", True),
        ("0.1.0", "0.2.0", False),
        ("0.10.0", "0.9.9", True),
        ("1.0", "1.0.0", False),
        ("1.0.1", "1.0", True),
        ("1.0.0", "1.0.0", False),
        ("unknown", "1.0", False),
        ("1.0", "unknown", False),
        ("1.0", "", False),
        ("1.1rc1", "1.0", True),
        ("1.0.0+local", "1.0.0", False),
        ("0.1", "0", False),
    ],
)
def test_only_what_is_certainly_newer_is_newer(one: str, other: str, expected: bool) -> None:
    assert newer(one, other) is expected


def test_the_fast_version_is_the_version() -> None:
    assert release() == version()
