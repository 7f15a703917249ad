"""Configurations right and wrong."""

from __future__ import annotations

from pathlib import Path

from findings import one

from mcp_server.access.tokens import digest_of
from mcp_server.doctor.checks import read_settings
from mcp_server.doctor.setup import access_findings, configuration_findings


def test_a_wrong_configuration_is_told_and_the_rest_goes_by_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[index]\nmax_fil_mb = 3\n", encoding="utf-8")
    environ = {"FOLDER_MCP_DATA_DIR": str(tmp_path / "data"), "PYTHON_PATH": "/some/python"}
    settings = read_settings(str(file), None, environ, "/home/config.toml")
    assert settings.config.data_dir == tmp_path / "data" and settings.config.parser_python == "/some/python"
    finding = one(configuration_findings(settings))
    assert finding.verdict == "failure" and 'did you mean "max_file_mb"?' in finding.detail


def test_without_a_file_its_place_is_told(tmp_path: Path) -> None:
    environ = {"FOLDER_MCP_DATA_DIR": str(tmp_path)}
    settings = read_settings(None, None, {**environ, "FOLDER_MCP_CONFIG": str(tmp_path / "none.toml")}, "/home/c.toml")
    assert settings.problem
    good = read_settings(str(tmp_path / "good.toml"), None, environ, "/home/c.toml")
    assert good.problem
    (tmp_path / "good.toml").write_text("", encoding="utf-8")
    good = read_settings(str(tmp_path / "good.toml"), None, environ, "/home/c.toml")
    assert one(configuration_findings(good)).detail == f"{tmp_path / 'good.toml'} is right"


def test_a_data_directory_that_is_a_file_still_leaves_settings(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("", encoding="utf-8")
    settings = read_settings(None, str(tmp_path / "data"), {}, "/home/c.toml")
    assert "is a file" in settings.problem and settings.config.data_dir == tmp_path / "data"


def test_tokens_that_let_nobody_in_are_told(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    assert list(access_findings(file, 0.0)) == []
    good = f"[users.ada]\ntoken_sha256 = '{digest_of('a')}'\nfolders = ['/x']\nexpires = 1970-01-01\n"
    file.write_text(good, encoding="utf-8")
    assert one(access_findings(file, 0.0)).verdict == "ok"
    assert "tokens have expired: ada" in one(access_findings(file, 100_000.0)).detail
    file.write_text(good.replace("['/x']", "[]"), encoding="utf-8")
    assert "tokens see no folder: ada" in one(access_findings(file, 0.0)).detail
    file.write_text(good + "x = 1\n", encoding="utf-8")
    finding = one(access_findings(file, 0.0))
    assert finding.verdict == "failure" and 'line 5: unknown key "x" of ada' in finding.detail
