"""Clients that can be asked without a login, each in a home of its own: do they read what we write?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relays import Home

from mcp_server.clients.entry import Launch
from mcp_server.clients.install import install
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import client

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]

ASKED = {
    "claude-code": (["claude", "mcp", "list"], "✔ Connected"),
    "codex": (["codex", "mcp", "get", "folder-mcp"], "startup_timeout_sec: 30"),
    "gemini-cli": (["gemini", "mcp", "list"], "Connected"),
    "cline": (["cline", "config", "mcp", "--json"], '"name":"folder-mcp","transportType":"stdio","disabled":false'),
}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("key", ASKED)
def test_the_client_itself_reads_the_entry(key: str, made: Home) -> None:
    command, told = ASKED[key]
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not on the path")
    home = made.base / "home"
    home.mkdir()
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    launch = Launch(sys.executable, ("-m", "mcp_server", *made.flags, "serve", str(made.notes)))
    install(client(key), client(key).file(Machine("linux", home, {})), launch)
    made.client(str(made.notes)).begin()  # a client's patience with a first start (Gemini's: 5 s) is not the subject
    asked = subprocess.run(
        [program, *command[1:]], env=environ, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    said = asked.stdout + asked.stderr
    assert told in said and "Disconnected" not in said, said
