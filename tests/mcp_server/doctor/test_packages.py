"""Interpreter and packages against made-up installations."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from findings import by_name, one

from mcp_server.doctor.checks import Finding
from mcp_server.doctor.machine import in_range, package_findings, python_findings, read_requirements, split_requirement


@pytest.mark.parametrize(
    ("version", "asked", "verdict"),
    [
        ("2.13.0+cpu", ">=2.6", True),
        ("0.40.3", ">=0.40,<0.41", True),
        ("0.41.0", ">=0.40,<0.41", False),
        ("0.9", ">=0.40", False),
        ("3", "<3", False),
        ("2.99.1", ">=2.3,<3", True),
        ("0.1.0", "==0.1.0", True),
        ("0.1", "==0.1.0", True),
        ("0.1.1", "==0.1.0", False),
        ("5.15.0rc1", ">=5.15", True),
        ("1!2.0", ">=1", True),
        ("1.4.9", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("1.4.1", "~=1.4.2", False),
        ("1.4.7", "==1.4.*", True),
        ("1.0", "", True),
        ("1.0", "!=1.0", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, asked: str, verdict: bool) -> None:
    assert in_range(version, asked) is verdict


@pytest.mark.parametrize(
    ("requirement", "parts"),
    [
        ("mcp>=2.3,<3", ("mcp", ">=2.3,<3")),
        ("mcp[cli] >= 2.3", ("mcp", ">=2.3")),
        ("PyStemmer (>=3)", ("PyStemmer", ">=3")),
        ('tomli>=1; python_version < "3.11"', ("tomli", ">=1")),
        ("numpy", ("numpy", "")),
    ],
)
def test_requirements_are_split(requirement: str, parts: tuple[str, str]) -> None:
    assert split_requirement(requirement) == parts


def test_missing_and_old_packages_are_failures_of_their_own() -> None:
    have = {"mcp": "2.4", "lancedb": "0.39.2"}
    found = by_name(package_findings(["mcp>=2.3,<3", "lancedb>=0.40,<0.41", "rich>=13"], have.get))
    assert found["packages"] == Finding("packages", "ok", "1 of 3 packages are as needed")
    assert found["package lancedb"].verdict == found["package rich"].verdict == "failure"
    assert "0.39.2 is installed" in found["package lancedb"].detail
    assert found["package lancedb"].remedy == "run: pip install 'lancedb>=0.40,<0.41'"
    assert "is not installed" in found["package rich"].detail


def test_the_ranges_are_the_projects_own(tmp_path: Path) -> None:
    project = Path(__file__).resolve().parents[3] / "pyproject.toml"
    asked = read_requirements(project)
    assert asked.python == ">=3.11"
    assert {"torch", "lancedb", "mcp", "rich"} <= {split_requirement(each)[0] for each in asked.packages}
    try:
        metadata.distribution("folder-mcp")
    except metadata.PackageNotFoundError:
        with pytest.raises(metadata.PackageNotFoundError):
            read_requirements(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(("version", "verdict"), [("3.11.0", "ok"), ("3.10.14", "failure"), ("3.14.1", "ok")])
def test_the_interpreter_is_new_enough_or_not(version: str, verdict: str) -> None:
    assert one(python_findings(version, "/usr/bin/python3", ">=3.11")).verdict == verdict
