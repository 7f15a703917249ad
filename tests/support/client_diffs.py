"""What ``folder-mcp install`` changes in a usual file of each client, byte for byte.

``python tests/support/client_diffs.py`` prints the diffs that stand in ``docs/clients.md``.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from client_files import FILES  # noqa: E402

from mcp_server.clients.entry import Launch  # noqa: E402
from mcp_server.clients.install import install  # noqa: E402
from mcp_server.clients.registry import CLIENTS  # noqa: E402

LAUNCH = Launch("/home/ada/.venv/bin/folder-mcp", ("serve", "/home/ada/notes"))


def diff(key: str) -> str:
    """The lines around our entry, before and after."""
    before = FILES[key]["usual"]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "settings"
        file.write_bytes(before)
        install(CLIENTS[key], file, LAUNCH)
        after = file.read_bytes()
    lines = difflib.unified_diff(lines_of(before), lines_of(after), n=2, lineterm="")
    return "\n".join([*lines][2:])


def lines_of(data: bytes) -> list[str]:
    return data.decode().split("\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description="Prints what install changes in a file of each client.").parse_args()
    for key, client in CLIENTS.items():
        print(f"## {client.title}\n\n```diff\n{diff(key)}\n```\n")
