"""How clients start this program, and which settings they must be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_server.clients.machine import Machine, is_temporary, launch_command, program_command, settings_to_pass
from mcp_server.processes.launch import parse_relay_arguments

SCRIPT = "folder-mcp.exe" if os.name == "nt" else "folder-mcp"


def test_the_command_beside_the_interpreter_comes_first(tmp_path: Path) -> None:
    python, scripts = tmp_path / "bin" / "python", tmp_path / "scripts"
    assert program_command(python, scripts) == (str(python), ("-m", "mcp_server"))
    scripts.mkdir()
    (scripts / SCRIPT).touch()
    assert program_command(python, scripts) == (str(scripts / SCRIPT), ())
    python.parent.mkdir()
    (python.parent / SCRIPT).touch()
    assert program_command(python, scripts) == (str(python.parent / SCRIPT), ())


def test_what_is_written_is_absolute_and_takes_the_fast_way_in(tmp_path: Path) -> None:
    made = launch_command(["/notes", "/the papers"], "/c.toml", "/data")
    assert Path(made.command).is_absolute()
    words = parse_relay_arguments(made.args[made.args.index("--config") :])
    assert words and (words.config, words.data_dir, words.folders) == ("/c.toml", "/data", ["/notes", "/the papers"])
    assert launch_command([], "", "").args[-1] == "serve"


@pytest.mark.parametrize(
    ("flags", "environ", "named"),
    [
        ((None, None), {}, ("", "")),
        (("/c.toml", "/d"), {"FOLDER_MCP_DATA_DIR": "/e"}, ("/c.toml", "/d")),
        ((None, None), {"FOLDER_MCP_CONFIG": "/c.toml", "FOLDER_MCP_DATA_DIR": "/e"}, ("/c.toml", "/e")),
        ((None, "rel"), {}, ("", "CWD/rel")),
        ((None, None), {"XDG_DATA_HOME": "HOME/.local/share", "XDG_CONFIG_HOME": "HOME/.config"}, ("", "")),
        ((None, None), {"XDG_DATA_HOME": "/big", "XDG_CONFIG_HOME": "HOME/own"}, ("", "/big/folder-mcp")),
        ((None, None), {"XDG_CONFIG_HOME": "HOME/full"}, ("HOME/full/folder-mcp/config.toml", "")),
        ((None, None), {"XDG_DATA_HOME": "relative"}, ("", "")),
    ],
)
def test_settings_that_a_clients_environment_will_not_carry_are_named(
    flags: tuple[str | None, str | None], environ: dict[str, str], named: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "full" / "folder-mcp").mkdir(parents=True)
    (tmp_path / "full" / "folder-mcp" / "config.toml").touch()

    def real(text: str) -> str:
        return text.replace("HOME/", f"{tmp_path}/").replace("CWD/", f"{os.getcwd()}/")

    given = {key: real(value) for key, value in environ.items()}
    assert settings_to_pass(*flags, Machine("linux", tmp_path, given)) == tuple(map(real, named))


@pytest.mark.parametrize(
    ("platform", "usual", "moves"),
    [("linux", ".local/share", True), ("darwin", "Library/Application Support", True), ("win32", "", False)],
)
def test_a_data_directory_that_the_system_moved_is_named(
    platform: str, usual: str, moves: bool, tmp_path: Path
) -> None:
    moved = Machine(platform, tmp_path, {"XDG_DATA_HOME": "/big"})
    assert settings_to_pass(None, None, moved) == ("", "/big/folder-mcp" if moves else "")
    same = Machine(platform, tmp_path, {"XDG_DATA_HOME": str(tmp_path / usual)})
    assert settings_to_pass(None, None, same) == ("", "")


def test_an_environment_of_uvx_is_known_to_be_passing() -> None:
    assert is_temporary("/home/ada/.cache/uv/archive-v0/x1/bin/folder-mcp")
    assert not is_temporary("/home/ada/.local/share/uv/tools/folder-mcp/bin/folder-mcp")
