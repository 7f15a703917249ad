"""A configuration as its form's library reads it: mappings in mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def at(document: Any, path: Sequence[str]) -> Any:
    """Return what stands at a path; None when nothing does."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document
