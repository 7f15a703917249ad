"""Secrets by content: chunks that hold a key or a token are not indexed.

The second layer, behind the names that the walk refuses: patterns of credentials that nobody quotes by accident.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from indexer.types import Chunk

_PATTERNS = (
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}",
    r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    r"\bAIza[0-9A-Za-z_-]{35}\b",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
)
_SECRET = re.compile("|".join(_PATTERNS))
_KEY_START = re.compile(_PATTERNS[0])
_KEY_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")


def redacted(chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], int]:
    """The chunks without those that hold a secret, and how many were dropped; ordinals stay as they were.

    A private key longer than one chunk is dropped from its first line to its last.
    """
    kept: list[Chunk] = []
    inside = False
    for chunk in chunks:
        held = inside or bool(_SECRET.search(chunk.text))
        starts = [m.end() for m in _KEY_START.finditer(chunk.text)]
        ends = [m.end() for m in _KEY_END.finditer(chunk.text)]
        if starts or ends:
            inside = bool(starts) and (not ends or starts[-1] > ends[-1])
        if not held:
            kept.append(chunk)
    return tuple(kept), len(chunks) - len(kept)
