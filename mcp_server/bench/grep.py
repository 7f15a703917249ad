"""What a person would do without an index: search the files for any of the words, best places first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from indexer.documents.encoding import decode
from indexer.types import Locator

BLOCK = 40
"""Lines of a place: about what an editor shows around a match."""
_WORD = re.compile(r"\w{2,}")


def grep(question: str, paths: Sequence[str], top_k: int) -> list[tuple[str, str]]:
    """Return path and locator of the best places: most different words of the question, then most matches.

    Reads the files anew, as grep does; case is ignored. Places are blocks of ``BLOCK`` lines.
    """
    words = sorted({word.casefold() for word in _WORD.findall(question)}, key=len, reverse=True)
    if not words:
        return []
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    found: list[tuple[int, int, str, int]] = []
    for path in paths:
        try:
            text = decode(Path(path).read_bytes())
        except OSError:  # gone, or not ours to read: grep says so and goes on
            continue
        blocks: dict[int, list[str]] = {}
        line, at = 0, 0
        for match in pattern.finditer(text):
            line, at = line + text.count("\n", at, match.start()), match.start()
            blocks.setdefault(line // BLOCK, []).append(match[0].casefold())
        found += [(-len(set(hits)), -len(hits), path, block) for block, hits in blocks.items()]
    best = sorted(found)[:top_k]
    return [(path, str(Locator("lines", "", block * BLOCK + 1, (block + 1) * BLOCK))) for _, _, path, block in best]
