"""Small JSON files by which processes inform each other: written atomically, readable by the user alone.

Standard library only: a relay reads one of them first.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write_state(path: str, document: dict[str, Any]) -> None:
    """Replace a state file atomically.

    Raises:
        OSError: The old file stays.
    """
    new = f"{path}.{os.getpid()}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def read_state(path: str) -> dict[str, Any]:
    """Return the content of a state file; empty when it is missing or no JSON object."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
