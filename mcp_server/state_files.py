"""Small JSON files that processes leave for each other: replaced as a whole, for the user alone.

Standard library only: the first thing a relay reads is one of them.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write_state(path: str, document: dict[str, Any]) -> None:
    """Replace a note; the old one is whole until the new one is.

    Raises:
        OSError: The old one stays.
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
    """Return what a note says; nothing when it is missing or not what it should be."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
