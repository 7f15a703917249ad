"""The machine as clients see it: platform, home, environment, commands. Passed in, so that tests have all three."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.clients.entry import ClientError, Launch


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look.

    Attributes:
        platform: As ``sys.platform``: ``linux``, ``darwin``, ``win32``.
        home: The user's home directory.
        environ: The environment.
        which: Finds a command on the path.
        applications: Where a Mac keeps its applications.
    """

    platform: str
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    which: Callable[[str], str | None] = shutil.which
    applications: tuple[Path, ...] = ()

    @property
    def roaming(self) -> Path:
        """Where desktop programs keep their settings: Electron's ``appData``."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self.named("APPDATA") or self.home / "AppData" / "Roaming"
        return self.xdg

    @property
    def local(self) -> Path:
        """Windows' directory for what does not roam."""
        return self.named("LOCALAPPDATA") or self.home / "AppData" / "Local"

    @property
    def xdg(self) -> Path:
        """``$XDG_CONFIG_HOME``, or ``~/.config``. A relative value does not count, says the XDG specification."""
        return self.named("XDG_CONFIG_HOME") or self.home / ".config"

    def named(self, variable: str) -> Path | None:
        """Return the absolute directory or file a variable of the environment names."""
        value = self.environ.get(variable, "").strip()
        return Path(value) if value and Path(value).is_absolute() else None


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return this machine.

    Args:
        environ: The environment, which also says where home is.
    """
    home = Path(environ.get("USERPROFILE" if sys.platform == "win32" else "HOME") or Path.home())
    applications = (Path("/Applications"), home / "Applications") if sys.platform == "darwin" else ()
    path = environ.get("PATH")
    return Machine(sys.platform, home, environ, lambda name: shutil.which(name, path=path), applications)


# Where each client keeps its configuration --------------------------------------------------------------------------
# Where each client keeps the servers of its user, as the client itself finds the file.


def claude_desktop(machine: Machine) -> Path:
    """The configuration file of Claude Desktop.

    On Windows the packaged program (MSIX, since February 2026) reads a file inside its package and never the one in
    ``%APPDATA%``, which it shows people all the same (anthropics/claude-code#26073).

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


def claude_code(machine: Machine) -> Path:
    """The user's file of Claude Code."""
    return (machine.named("CLAUDE_CONFIG_DIR") or machine.home) / ".claude.json"


def cursor(machine: Machine) -> Path:
    """The user's servers of Cursor."""
    return machine.home / ".cursor" / "mcp.json"


def vscode(machine: Machine) -> Path:
    """The servers of the default profile of VS Code."""
    return machine.roaming / "Code" / "User" / "mcp.json"


def windsurf(machine: Machine) -> Path:
    """The servers of Windsurf."""
    return machine.home / ".codeium" / "windsurf" / "mcp_config.json"


def zed(machine: Machine) -> Path:
    """The user's settings of Zed; on a Mac they are in ``~/.config`` too."""
    if machine.platform == "win32":
        return machine.roaming / "Zed" / "settings.json"
    return (machine.xdg if machine.platform == "linux" else machine.home / ".config") / "zed" / "settings.json"


def gemini_cli(machine: Machine) -> Path:
    """The user's settings of Gemini CLI."""
    return (machine.named("GEMINI_CLI_HOME") or machine.home) / ".gemini" / "settings.json"


def codex(machine: Machine) -> Path:
    """The user's configuration of Codex."""
    return (machine.named("CODEX_HOME") or machine.home / ".codex") / "config.toml"


def goose(machine: Machine) -> Path:
    """The configuration of Goose."""
    root = machine.named("GOOSE_PATH_ROOT")
    if root:
        return root / "config" / "config.yaml"
    if machine.platform == "win32":
        return machine.roaming / "Block" / "goose" / "config" / "config.yaml"
    return machine.xdg / "goose" / "config.yaml"


def cline(machine: Machine) -> Path:
    """The servers of Cline: one file for its extension (4.x) and its command line.

    Extensions up to 3.x keep theirs in VS Code's storage; that file counts where it is the only one there is. Cline
    carries its entries over when it is updated.
    """
    named = machine.named("CLINE_MCP_SETTINGS_PATH")
    if named:
        return named
    data = machine.named("CLINE_DATA_DIR") or (machine.named("CLINE_DIR") or machine.home / ".cline") / "data"
    shared = data / "settings" / "cline_mcp_settings.json"
    old = cline_storage(machine) / "settings" / "cline_mcp_settings.json"
    return old if old.is_file() and not shared.exists() else shared


def cline_storage(machine: Machine) -> Path:
    """The directory of Cline's extension in VS Code."""
    return machine.roaming / "Code" / "User" / "globalStorage" / "saoudrizwan.claude-dev"


# How clients start us -----------------------------------------------------------------------------------------------
# How clients start this very program: absolute, and with the settings that their environment will not carry.

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
