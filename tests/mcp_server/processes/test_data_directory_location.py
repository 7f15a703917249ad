"""The relay finds the data directory that the whole configuration would give."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from platformdirs.macos import MacOS
from platformdirs.windows import Windows

from indexer.config import load_config
from indexer.errors import ConfigError
from mcp_server.processes.owner_lock import locate, user_config_path

CASES = [
    (None, None, {}, None),
    (None, "other", {}, None),
    (None, None, {"FOLDER_MCP_DATA_DIR": "~/from-env"}, None),
    (None, "flag", {"FOLDER_MCP_DATA_DIR": "env"}, None),
    ("config.toml", None, {}, ""),
    ("config.toml", None, {}, 'data_dir = "beside"'),
    ("config.toml", None, {}, 'data_dir = "~/written"\n[search]\nwait = 5'),
    ("config.toml", "flag", {}, 'data_dir = "beside"'),
    (None, None, {"FOLDER_MCP_CONFIG": "config.toml"}, '# data_dir = "no"\ndata_dir = "/yes"'),
    ("config.toml", None, {}, "\ufeffdata_dir = 'with-mark'"),
]


@pytest.mark.parametrize(("config", "data_dir", "environ", "text"), CASES)
def test_the_data_directory_is_the_configurations(
    config: str | None,
    data_dir: str | None,
    environ: dict[str, str],
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if text is not None:
        Path("config.toml").write_text(text, encoding="utf-8")
    whole = load_config(
        Path(config) if config else None, data_dir=Path(data_dir) if data_dir else None, environ=environ
    )
    assert locate(config, data_dir, environ).data_dir == str(whole.data_dir)


@pytest.mark.parametrize("home", ["/somewhere/else", "relative", " "])
def test_the_platforms_place_follows_its_variable(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", home)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert locate(None, None, {}).data_dir == str(load_config(None, data_dir=None, environ={}).data_dir)


@pytest.mark.parametrize("named", ["", "/elsewhere", "relative"])
def test_a_mac_keeps_its_files_where_platformdirs_says(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", named)
    monkeypatch.setenv("XDG_CONFIG_HOME", named)
    expected = MacOS("folder-mcp", appauthor=False)
    config, data = Path(expected.user_config_dir) / "config.toml", Path(expected.user_data_dir)
    assert named == "/elsewhere" or data == tmp_path / "Library" / "Application Support" / "folder-mcp"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (Path(user_config_path()), Path(locate(None, None, {}).data_dir)) == (config, data)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no faking Windows on Windows")
@pytest.mark.parametrize("local", ["", r"D:\Local", r"C:\Users\ada\AppData\Local"])
def test_windows_keeps_its_files_where_platformdirs_says(
    local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/not/on/windows")
    monkeypatch.setenv("LOCALAPPDATA", local)
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", local)  # what the system itself would say there
    places = Windows("folder-mcp", appauthor=False)
    expected = places.user_data_dir if local else str(tmp_path / "AppData" / "Local" / "folder-mcp")
    assert not local or places.user_config_dir == expected
    monkeypatch.setattr(sys, "platform", "win32")
    assert locate(None, None, {}).data_dir == expected
    assert user_config_path() == os.path.join(expected, "config.toml")


def test_the_users_own_configuration_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "folder-mcp").mkdir()
    (tmp_path / "folder-mcp" / "config.toml").write_text('data_dir = "/its/own"\n', encoding="utf-8")
    assert locate(None, None, {}).data_dir == "/its/own"


@pytest.mark.parametrize("text", ["data_dir = [", "data_dir = 1", None])
def test_a_configuration_that_cannot_be_read_is_left_to_whoever_explains_it(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(file, data_dir=None, environ={})
    with pytest.raises(ValueError):
        locate(str(file), None, {})


def test_processes_that_read_the_same_file_have_the_same_fingerprint(tmp_path: Path) -> None:
    one, two, other = tmp_path / "one.toml", tmp_path / "two.toml", tmp_path / "other.toml"
    for file, text in ((one, "[search]"), (two, "[search]"), (other, "[slot]")):
        file.write_text(text, encoding="utf-8")
    prints = [locate(str(file), "data", {}).fingerprint for file in (one, two, other)]
    assert prints[0] == prints[1] != prints[2]
