"""Where ten clients keep their servers on three platforms, and how we see that they are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server.clients.entry import ClientError
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import CLIENTS, client

MAC = "Library/Application Support"
CLINE = "globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
PLACES = {
    "claude-desktop": (
        ".config/Claude/claude_desktop_config.json",
        f"{MAC}/Claude/claude_desktop_config.json",
        "AppData/Roaming/Claude/claude_desktop_config.json",
    ),
    "claude-code": (".claude.json",) * 3,
    "cursor": (".cursor/mcp.json",) * 3,
    "vscode": (".config/Code/User/mcp.json", f"{MAC}/Code/User/mcp.json", "AppData/Roaming/Code/User/mcp.json"),
    "windsurf": (".codeium/windsurf/mcp_config.json",) * 3,
    "zed": (".config/zed/settings.json", ".config/zed/settings.json", "AppData/Roaming/Zed/settings.json"),
    "gemini-cli": (".gemini/settings.json",) * 3,
    "codex": (".codex/config.toml",) * 3,
    "goose": (
        ".config/goose/config.yaml",
        ".config/goose/config.yaml",
        "AppData/Roaming/Block/goose/config/config.yaml",
    ),
    "cline": (".cline/data/settings/cline_mcp_settings.json",) * 3,
}


def machine(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, home, environ, which=lambda _: None)


@pytest.mark.parametrize("key", CLIENTS)
@pytest.mark.parametrize(("number", "platform"), list(enumerate(("linux", "darwin", "win32"))))
def test_every_client_has_its_place_on_every_platform(key: str, number: int, platform: str, tmp_path: Path) -> None:
    assert client(key).file(machine(tmp_path, platform)) == tmp_path / PLACES[key][number]


@pytest.mark.parametrize(
    ("key", "variable", "below"),
    [
        ("claude-desktop", "XDG_CONFIG_HOME", "Claude/claude_desktop_config.json"),
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("zed", "XDG_CONFIG_HOME", "zed/settings.json"),
        ("gemini-cli", "GEMINI_CLI_HOME", ".gemini/settings.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("goose", "XDG_CONFIG_HOME", "goose/config.yaml"),
        ("goose", "GOOSE_PATH_ROOT", "config/config.yaml"),
        ("cline", "CLINE_DIR", "data/settings/cline_mcp_settings.json"),
        ("cline", "CLINE_DATA_DIR", "settings/cline_mcp_settings.json"),
        ("cline", "CLINE_MCP_SETTINGS_PATH", ""),
    ],
)
def test_a_clients_own_variable_moves_its_file(key: str, variable: str, below: str, tmp_path: Path) -> None:
    moved = machine(tmp_path, **{variable: str(tmp_path / "moved")})
    assert client(key).file(moved) == tmp_path / "moved" / below
    relative = machine(tmp_path, **{variable: "moved"})
    assert client(key).file(relative) == tmp_path / PLACES[key][0]


def test_windows_own_variables_count(tmp_path: Path) -> None:
    moved = machine(tmp_path, "win32", APPDATA=str(tmp_path / "R"), LOCALAPPDATA=str(tmp_path / "L"))
    assert client("vscode").file(moved) == tmp_path / "R" / "Code" / "User" / "mcp.json"
    packaged = tmp_path / "L" / "Packages" / "Claude_x1" / "LocalCache" / "Roaming" / "Claude"
    packaged.mkdir(parents=True)
    assert client("claude-desktop").file(moved) == packaged / "claude_desktop_config.json"


def test_of_several_packages_the_one_with_a_configuration_counts(tmp_path: Path) -> None:
    windows = machine(tmp_path, "win32")
    packages = tmp_path / "AppData" / "Local" / "Packages"
    one, two = (packages / f"Claude_{n}" / "LocalCache" / "Roaming" / "Claude" for n in "ab")
    one.mkdir(parents=True)
    two.mkdir(parents=True)
    with pytest.raises(ClientError, match="--file"):
        client("claude-desktop").file(windows)
    (two / "claude_desktop_config.json").touch()
    assert client("claude-desktop").file(windows) == two / "claude_desktop_config.json"


def test_an_old_extension_of_cline_keeps_its_file(tmp_path: Path) -> None:
    here = machine(tmp_path)
    old = tmp_path / ".config" / "Code" / "User" / CLINE
    old.parent.mkdir(parents=True)
    old.touch()
    assert client("cline").file(here) == old
    shared = tmp_path / PLACES["cline"][0]
    shared.parent.mkdir(parents=True)
    shared.touch()
    assert client("cline").file(here) == shared


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("key", CLIENTS)
def test_a_client_is_found_by_its_traces_and_not_without_any(key: str, platform: str, tmp_path: Path) -> None:
    here = machine(tmp_path, platform)
    assert not [each.title for each in CLIENTS.values() if each.found(here)]
    file = client(key).file(here)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert [each.key for each in CLIENTS.values() if each.found(here)] == [key]


def test_a_command_on_the_path_and_an_application_are_traces(tmp_path: Path) -> None:
    by_command = Machine("linux", tmp_path, {}, which={"codex": "/usr/bin/codex"}.get)
    assert client("codex").found(by_command) == "/usr/bin/codex"
    (tmp_path / "Applications" / "Claude.app").mkdir(parents=True)
    mac = Machine("darwin", tmp_path, {}, lambda _: None, (tmp_path / "Applications",))
    assert [each.key for each in CLIENTS.values() if each.found(mac)] == ["claude-desktop"]
