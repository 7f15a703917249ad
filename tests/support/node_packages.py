"""The conformance suite and the clients that come by npm: where they are, or why a test cannot have them.

``npm install --prefix tests/node`` installs the versions of ``tests/node/package.json``, and a node to run them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parents[1] / "node"
PINNED: dict[str, str] = json.loads((ROOM / "package.json").read_text(encoding="utf-8"))["dependencies"]


def node() -> str:
    """The node that runs them. Skips the test when it is not there."""
    found = ROOM / "node_modules" / ".bin" / "node"
    if not found.exists():
        pytest.skip("the clients of tests/node are not installed: npm install --prefix tests/node")
    return str(found)


def package(name: str) -> Path:
    """The directory of an installed package. Skips the test when it, or its pinned version, is not there."""
    node()
    where = ROOM / "node_modules" / name
    have = json.loads((where / "package.json").read_text(encoding="utf-8"))["version"] if where.exists() else "none"
    if have != PINNED[name]:
        pytest.skip(f"{name} {PINNED[name]} is not installed but {have}: npm install --prefix tests/node")
    return where


def program(name: str) -> list[str]:
    """The command line that runs a package's program. Skips the test when it is not there."""
    where = package(name)
    file = json.loads((where / "package.json").read_text(encoding="utf-8"))["bin"]
    return [node(), str(where / (file if isinstance(file, str) else next(iter(file.values()))))]


def run(words: list[str], *, limit: float = 240.0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of them and wait for it."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=limit, cwd=cwd, stdin=subprocess.DEVNULL, check=False
    )
