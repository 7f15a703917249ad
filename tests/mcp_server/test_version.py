from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mcp_server.version import ROOT, newer, release


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


def test_an_installed_distribution_says_its_version_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.version.ROOT", str(tmp_path))
    assert release() == "0"
    (tmp_path / "other-9.9.dist-info").mkdir()
    (tmp_path / "folder_mcp-1.2.3.dist-info").mkdir()
    assert release() == "1.2.3"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "folder-mcp"\nversion = "1.3.0"\n', encoding="utf-8")
    assert release() == "1.3.0"


def test_the_version_is_that_of_the_project_and_takes_no_search_of_distributions() -> None:
    project = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = "import sys; from mcp_server.version import release; print(release(), 'importlib.metadata' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout == f"{project['version']} False\n"
