"""Which command lines become relays, and what a relay does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.processes.launch import parse_relay_arguments
from mcp_server.processes.spawn import user_environment
from mcp_server.version import ROOT

RELAY_MODULES = (
    "attach",
    "handshake",
    "launch",
    "owner_lock",
    "relay",
    "relay_calls",
    "relay_server",
    "spawn",
    "timing",
)


@pytest.mark.parametrize(
    ("argv", "folders"),
    [
        ([], []),
        (["serve"], []),
        (["serve", "notes", "--data-dir", "d", "more"], ["notes", "more"]),
        (["--config=c.toml", "serve", "-v"], []),
        (["/notes"], ["/notes"]),
        (["~/notes", "./more"], ["~/notes", "./more"]),
    ],
)
def test_serving_is_a_relays_business(argv: list[str], folders: list[str]) -> None:
    words = parse_relay_arguments(argv)
    assert words is not None
    assert words.folders == folders


@pytest.mark.parametrize(
    "argv",
    [
        ["search", "x"],
        ["--help"],
        ["serve", "--help"],
        ["serve", "--no-daemon"],
        ["serve", "--http"],
        ["--no-daemon"],
        ["serve", "--config"],
        ["notes"],
        ["--version"],
    ],
)
def test_everything_else_is_not(argv: list[str]) -> None:
    assert parse_relay_arguments(argv) is None


def test_a_relay_is_the_standard_library_alone() -> None:
    """Every module of the relay, imported: nothing of anybody else's, and little of Python's own."""
    script = (
        "import json, sys\n"
        f"sys.path.insert(0, {ROOT!r})\n"
        "before = set(sys.modules)\n"
        + "".join(f"import mcp_server.processes.{name}\n" for name in RELAY_MODULES)
        + "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    ours = {name for name in modules if name.split(".")[0] in {"mcp_server", "indexer"}}
    room = {f"mcp_server.processes.{name}" for name in RELAY_MODULES}
    beside = {
        "mcp_server",
        "mcp_server.processes",
        "mcp_server.state_files",
        "mcp_server.processes.timing",
        "mcp_server.protocol",
        "mcp_server.protocol.lines",
        "mcp_server.version",
    }
    assert ours == beside | room
    assert {name.split(".")[0] for name in set(modules) - ours} <= sys.stdlib_module_names
    heavy = {"asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess", "typing", "argparse", "tempfile"}
    assert not heavy & set(modules)


def test_the_owner_gets_the_users_environment_and_not_a_clients(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "FOLDER_MCP_CONFIG": "c",
        "HF_HUB_OFFLINE": "1",
        "https_proxy": "p",
        "PYTHONPATH": f"{ROOT}:/own",
        "VSCODE_PID": "1",
        "CLAUDE_CODE": "1",
        "ELECTRON_RUN_AS_NODE": "1",
        "NODE_OPTIONS": "x",
        "PYTHONSTARTUP": "x",
        "OPENAI_API_KEY": "secret",
    }
    given |= {
        "PYTHONHOME": "/project",
        "LD_PRELOAD": "/project/x.so",
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": "/project",
    }
    wanted = {"PATH", "HOME", "LC_ALL", "FOLDER_MCP_CONFIG", "HF_HUB_OFFLINE", "https_proxy", "PYTHONPATH"}
    assert set(user_environment(given)) == wanted
    assert user_environment(given)["PYTHONPATH"] == ROOT, "a client's own is for its project"


def test_an_installation_that_is_found_by_pythonpath_alone_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anyio").mkdir()
    (tmp_path / "anyio" / "__init__.py").touch()
    given = {"PYTHONPATH": f"{tmp_path}{os.pathsep}/project"}
    assert user_environment(given)["PYTHONPATH"] == ROOT
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/project"])
    assert user_environment(given)["PYTHONPATH"] == os.pathsep.join([ROOT, str(tmp_path), "/project"])
