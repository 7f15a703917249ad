"""Builds the bundle for Claude Desktop: ``python bundle/build.py [OUT.mcpb]``.

Copies what the server needs, validates the manifest and packs, both with the official tool (``npx
@anthropic-ai/mcpb``, or ``mcpb`` on the path).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTENTS = ("mcp_server", "indexer", "pyproject.toml", "README.md", "LICENSE")
TOOL = "@anthropic-ai/mcpb@2.1.2"


def main() -> int:
    """Validate and pack; returns the tool's exit code."""
    manifest = json.loads((ROOT / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Builds the bundle for Claude Desktop.")
    parser.add_argument("out", metavar="OUT", nargs="?", default=f"folder-mcp-{manifest['version']}.mcpb")
    out = Path(parser.parse_args().out).absolute()
    command = [found] if (found := shutil.which("mcpb")) else ["npx", "--yes", TOOL]
    with tempfile.TemporaryDirectory() as place:
        collect(Path(place))
        for words in (["validate", str(Path(place, "manifest.json"))], ["pack", place, str(out)]):
            done = subprocess.run([*command, *words], check=False)
            if done.returncode:
                return done.returncode
    sys.stdout.write(f"{out}\n")
    return 0


def collect(place: Path) -> None:
    """Copy the bundle's contents."""
    shutil.copy(ROOT / "bundle" / "manifest.json", place)
    for name in CONTENTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)


if __name__ == "__main__":
    sys.exit(main())
