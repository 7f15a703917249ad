"""Where each client has its configuration on this machine, and the command by which it starts this program.

The machine (platform, home, environment) is a value that is passed in, so that tests have every platform.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.clients.entry import ONLY, ClientError, Launch


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where clients have their files.

    Attributes:
        platform: As ``sys.platform``: ``linux``, ``darwin``, ``win32``.
        home: The user's home directory.
        environ: The environment.
        which: Finds a command on the path.
        applications: Directories of a Mac's applications.
    """

    platform: str
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    which: Callable[[str], str | None] = shutil.which
    applications: tuple[Path, ...] = ()

    @property
    def roaming(self) -> Path:
        """The settings directory of desktop programs: Electron's ``appData``."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self.path_from("APPDATA") or self.home / "AppData" / "Roaming"
        return self.xdg

    @property
    def local(self) -> Path:
        """Windows' directory for data that does not roam."""
        return self.path_from("LOCALAPPDATA") or self.home / "AppData" / "Local"

    @property
    def xdg(self) -> Path:
        """``$XDG_CONFIG_HOME``, or ``~/.config``. The XDG specification ignores relative values."""
        return self.path_from("XDG_CONFIG_HOME") or self.home / ".config"

    def path_from(self, variable: str) -> Path | None:
        """Return the absolute path in a variable of the environment; None when it has none."""
        value = self.environ.get(variable, "").strip()
        return Path(value) if value and Path(value).is_absolute() else None


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return this machine.

    Args:
        environ: The environment, which also gives the home directory.
    """
    home = Path(environ.get("USERPROFILE" if sys.platform == "win32" else "HOME") or Path.home())
    applications = (Path("/Applications"), home / "Applications") if sys.platform == "darwin" else ()
    path = environ.get("PATH")
    return Machine(sys.platform, home, environ, lambda name: shutil.which(name, path=path), applications)


# Configuration files ------------------------------------------------------------------------------------------------
# The file with the user's servers, found by the same rules as the client itself.


def claude_desktop_file(machine: Machine) -> Path:
    """The configuration file of Claude Desktop.

    On Windows the packaged program (MSIX, since February 2026) reads a file inside its package and never the one in
    ``%APPDATA%``, although it shows users the other one (anthropics/claude-code#26073).

    Raises:
        ClientError: There are several packages, and none or several have a configuration.
    """
    name = "claude_desktop_config.json"
    if machine.platform == "win32":
        packages = sorted((machine.local / "Packages").glob("Claude_*/LocalCache/Roaming/Claude"))
        if len(packages) > 1:
            packages = [each for each in packages if (each / name).is_file()]
            if len(packages) != 1:
                raise ClientError(
                    f"several packages of Claude are in {machine.local / 'Packages'}; name one by --file"
                )
        if packages:
            return packages[0] / name
    return machine.roaming / "Claude" / name


def claude_code_file(machine: Machine) -> Path:
    """The user's file of Claude Code."""
    return (machine.path_from("CLAUDE_CONFIG_DIR") or machine.home) / ".claude.json"


def cursor_file(machine: Machine) -> Path:
    """The user's servers of Cursor."""
    return machine.home / ".cursor" / "mcp.json"


def vscode_file(machine: Machine) -> Path:
    """The servers of the default profile of VS Code."""
    return machine.roaming / "Code" / "User" / "mcp.json"


def windsurf_file(machine: Machine) -> Path:
    """The servers of Windsurf."""
    return machine.home / ".codeium" / "windsurf" / "mcp_config.json"


def zed_file(machine: Machine) -> Path:
    """The user's settings of Zed; on a Mac they are in ``~/.config`` too."""
    if machine.platform == "win32":
        return machine.roaming / "Zed" / "settings.json"
    return (machine.xdg if machine.platform == "linux" else machine.home / ".config") / "zed" / "settings.json"


def gemini_cli_file(machine: Machine) -> Path:
    """The user's settings of Gemini CLI."""
    return (machine.path_from("GEMINI_CLI_HOME") or machine.home) / ".gemini" / "settings.json"


def codex_file(machine: Machine) -> Path:
    """The user's configuration of Codex."""
    return (machine.path_from("CODEX_HOME") or machine.home / ".codex") / "config.toml"


def goose_file(machine: Machine) -> Path:
    """The configuration of Goose."""
    root = machine.path_from("GOOSE_PATH_ROOT")
    if root:
        return root / "config" / "config.yaml"
    if machine.platform == "win32":
        return machine.roaming / "Block" / "goose" / "config" / "config.yaml"
    return machine.xdg / "goose" / "config.yaml"


def cline_file(machine: Machine) -> Path:
    """The servers of Cline: one file for its extension (4.x) and its command line.

    Extensions up to 3.x have theirs in VS Code's storage; that file is used where it is the only one. Cline
    carries its entries over when it is updated.
    """
    named = machine.path_from("CLINE_MCP_SETTINGS_PATH")
    if named:
        return named
    data = machine.path_from("CLINE_DATA_DIR") or (machine.path_from("CLINE_DIR") or machine.home / ".cline") / "data"
    shared = data / "settings" / "cline_mcp_settings.json"
    old = cline_storage(machine) / "settings" / "cline_mcp_settings.json"
    return old if old.is_file() and not shared.exists() else shared


def cline_storage(machine: Machine) -> Path:
    """The storage directory of Cline's extension in VS Code."""
    return machine.roaming / "Code" / "User" / "globalStorage" / "saoudrizwan.claude-dev"


# The command that clients start -------------------------------------------------------------------------------------
# An absolute path, with the settings that clients do not pass on in the environment.

SCRIPT = "folder-mcp"
TEMPORARY_DIRECTORIES = ("archive-v0", "environments-v2", "builds-v0")
"""Directories of uv's cache, where an environment of ``uvx`` is and may be removed at any time."""


def launch_command(folders: Sequence[str], config: str, data_dir: str, *, only: bool = False) -> Launch:
    """Return the command that a client is to start.

    Args:
        folders: Absolute.
        config: For ``--config``; empty for the user's own file.
        data_dir: For ``--data-dir``; empty for the configured one.
        only: Whether the client is to see nothing but the folders.
    """
    command, first = program_command(Path(sys.executable), Path(sysconfig.get_path("scripts")))
    options = [*(["--config", config] if config else []), *(["--data-dir", data_dir] if data_dir else [])]
    return Launch(command, (*first, *options, "serve", *([ONLY] if only else []), *folders))


def program_command(python: Path, scripts: Path) -> tuple[str, tuple[str, ...]]:
    """Return the command of this installation and its first arguments.

    Args:
        python: The running interpreter; its symbolic links are not followed: they would lead out of its environment.
        scripts: The directory of its installation's commands.
    """
    name = f"{SCRIPT}.exe" if os.name == "nt" else SCRIPT
    for directory in (python.parent, scripts):
        if (directory / name).is_file():
            return str(directory / name), ()
    return str(python), ("-m", "mcp_server")


def is_temporary(command: str) -> bool:
    """Whether a command is in an environment that may be removed at any time."""
    return bool({*Path(command).parts} & {*TEMPORARY_DIRECTORIES})


def settings_to_pass(config: str | None, data_dir: str | None, machine: Machine) -> tuple[str, str]:
    """Return the configuration file and data directory that the entry must name, empty where it need not.

    Clients pass few variables on. Without them the client's server would search another index than this command line.

    Args:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        machine: Its environment is used.
    """
    environ = machine.environ
    file = config or environ.get("FOLDER_MCP_CONFIG") or ""
    data = data_dir or environ.get("FOLDER_MCP_DATA_DIR") or ""
    if not file:
        moved = _moved_directory(machine, "XDG_CONFIG_HOME", ".config")
        file = str(moved / "config.toml") if moved and (moved / "config.toml").is_file() else ""
    if not data:
        moved = _moved_directory(machine, "XDG_DATA_HOME", ".local/share")
        data = str(moved) if moved else ""
    return _absolute(file), _absolute(data)


def _moved_directory(machine: Machine, variable: str, usual: str) -> Path | None:
    """Return our directory below the one in a variable; None where that is the default."""
    named = machine.path_from(variable) if machine.platform != "win32" else None
    default = "Library/Application Support" if machine.platform == "darwin" else usual
    return named / SCRIPT if named and named != machine.home / default else None


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""
