"""How clients start this very program: absolute, and with the settings that their environment will not carry."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from mcp_server.clients.entry import Launch
from mcp_server.clients.machine import Machine

SCRIPT = "folder-mcp"
PASSING = ("archive-v0", "environments-v2", "builds-v0")
"""Directories of uv's cache: an environment of ``uvx`` lies there, and may be cleaned away."""


def launch(folders: Sequence[str], config: str, data_dir: str) -> Launch:
    """Return what a client is to start.

    Args:
        folders: Absolute.
        config: A configuration file to name; empty for the user's own.
        data_dir: A data directory to name; empty for the configured one.
    """
    command, first = program(Path(sys.executable), Path(sysconfig.get_path("scripts")))
    named = [*(["--config", config] if config else []), *(["--data-dir", data_dir] if data_dir else [])]
    return Launch(command, (*first, *named, "serve", *folders))


def program(python: Path, scripts: Path) -> tuple[str, tuple[str, ...]]:
    """Return the command of this installation and its first arguments.

    Args:
        python: The running interpreter; its links are not followed, which would lead out of its environment.
        scripts: Where its installation puts commands.
    """
    name = f"{SCRIPT}.exe" if os.name == "nt" else SCRIPT
    for directory in (python.parent, scripts):
        if (directory / name).is_file():
            return str(directory / name), ()
    return str(python), ("-m", "mcp_server")


def passing(command: str) -> bool:
    """Whether a command lies in an environment that will not stay."""
    return bool({*Path(command).parts} & {*PASSING})


def named_settings(config: str | None, data_dir: str | None, machine: Machine) -> tuple[str, str]:
    """Return the configuration file and data directory that clients must be told, empty where they need not be.

    Clients pass few variables on. What a flag or a variable says here would be lost, and the client's server would
    search another index than this command line does.

    Args:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        machine: Whose environment counts.
    """
    environ = machine.environ
    file = config or environ.get("FOLDER_MCP_CONFIG") or ""
    data = data_dir or environ.get("FOLDER_MCP_DATA_DIR") or ""
    if not file:
        moved = _moved(machine, "XDG_CONFIG_HOME", ".config")
        file = str(moved / "config.toml") if moved and (moved / "config.toml").is_file() else ""
    if not data:
        moved = _moved(machine, "XDG_DATA_HOME", ".local/share")
        data = str(moved) if moved else ""
    return _absolute(file), _absolute(data)


def _moved(machine: Machine, variable: str, usual: str) -> Path | None:
    """Where a variable puts our directory; None where it leaves it where it is without it."""
    named = machine.named(variable) if machine.platform != "win32" else None
    there = "Library/Application Support" if machine.platform == "darwin" else usual
    return named / SCRIPT if named and named != machine.home / there else None


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""
