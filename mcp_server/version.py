"""The version, from one place: the installed distribution, or the checkout's ``pyproject.toml``."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def version() -> str:
    """Return this program's version, for example ``0.1.0``."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():  # a checkout is newer than whatever is installed beside it
        found = re.search(r'^version = "([^"]+)"', project.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return metadata.version("folder-mcp")
