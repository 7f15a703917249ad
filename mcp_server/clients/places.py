"""Where each client keeps the servers of its user, as the client itself finds the file."""

from __future__ import annotations

from pathlib import Path

from mcp_server.clients.errors import ClientError
from mcp_server.clients.machine import Machine


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
