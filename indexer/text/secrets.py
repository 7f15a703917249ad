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
_MARKS = (
    *("-----BEGIN ", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
    *("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "sk-", "k_live_", "AIza", "eyJ"),
)
"""What every secret begins with or holds: looking for these takes a fortieth of the time the patterns take."""
_KEY_START = re.compile(_PATTERNS[0])
_KEY_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")


_KEY_CHUNKS = 20
"""Chunks within which a private key must end for what lies between to be taken for it; else it is only quoted."""


def holds_secret(text: str) -> bool:
    """Whether a key or a token stands in a text."""
    return any(mark in text for mark in _MARKS) and _SECRET.search(text) is not None


def redacted(chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], int]:
    """The chunks without those that hold a secret, and how many were dropped; ordinals stay as they were.

    A private key longer than one chunk is dropped from its first line to its last.
    """
    dropped = {n for n, chunk in enumerate(chunks) if holds_secret(chunk.text)}
    for first in [n for n in dropped if _open_key(chunks[n].text)]:
        following = range(first + 1, min(first + 1 + _KEY_CHUNKS, len(chunks)))
        end = next((n for n in following if _KEY_END.search(chunks[n].text)), None)
        if end is not None:
            dropped.update(range(first, end + 1))
    return tuple(chunk for n, chunk in enumerate(chunks) if n not in dropped), len(dropped)


def _open_key(text: str) -> bool:
    """Whether a private key begins in a text and does not end in it."""
    starts = [match.end() for match in _KEY_START.finditer(text)]
    return bool(starts) and _KEY_END.search(text, starts[-1]) is None
