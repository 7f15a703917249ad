"""Code in the folder or the working directory, and an environment that points to it: owner and workers run none.

What a client's environment does to the process that it starts itself, before any code of ours, is the client's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relays import Home

from mcp_server.version import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

RECORD = "import os, sys\nos.makedirs(os.path.join({ran!r}, f'{{os.getpid()}} {name}'), exist_ok=True)\n"
NAMES = ("sitecustomize", "usercustomize", "anyio", "mcp", "lancedb", "numpy", "xberg", "tokenizers", "conftest")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")


def test_neither_owner_nor_worker_runs_code_that_a_client_points_to(home: Home, tmp_path: Path) -> None:
    project, ran = home.notes, tmp_path / "ran"
    ran.mkdir()
    for name in NAMES:
        (project / f"{name}.py").write_text(RECORD.format(ran=str(ran), name=name), encoding="utf-8")
    (project / "evil.pth").write_text("import sitecustomize\n", encoding="utf-8")
    (project / "letter.eml").write_text("Subject: hello\n\nthe wombat digs\n", encoding="utf-8")
    environ = os.environ | {
        "PYTHONPATH": f"{project}{os.pathsep}{ROOT}",
        "PYTHONSTARTUP": str(project / "sitecustomize.py"),
        "PYTHONUSERBASE": str(project),
        "LD_PRELOAD": str(project / "no such.so"),
        "PYTHONWARNINGS": "error::sitecustomize.Evil",
        "PYTHONBREAKPOINT": "sitecustomize.evil",
    }
    client = home.client(str(project), root=project, env=environ)
    client.initialize()
    client.finds("wombat")
    status = client.status()
    owner, workers = home.owner(), status["index"]["pool"]["pids"]
    assert workers
    recorded = {int(each.name.split()[0]) for each in ran.iterdir()}
    assert recorded <= {client.process.pid}, "only what the client itself started, by its own environment"
    for pid in (owner, *workers):
        given = environment_of(pid)
        assert str(project) not in given
        assert not [name for name in ("LD_PRELOAD", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONUSERBASE") if name in given]
