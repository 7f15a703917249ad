"""The one way text is shortened before any tokenizer sees it, so that both runtimes and the chunker agree."""

from __future__ import annotations

import re

LONGEST_RUN = 512
"""Characters without a space that stay together.

Tokenizers remember pieces by whole unspaced strings and some search them in more than linear time; words and URLs
are shorter than this, base64 and minified code are not.
"""
CHARS_PER_TOKEN = 64
"""Upper bound of what a token covers on average, characters: ordinary text has 2 to 6."""

_LONG = re.compile(rf"\S{{{LONGEST_RUN}}}(?=\S)")


def breaks(text: str) -> list[int]:
    """Return the offsets at which a space is put in: behind every ``LONGEST_RUN`` characters without one."""
    return [m.end() for m in _LONG.finditer(text)]


def cut(text: str, max_tokens: int | None = None) -> str:
    """Return ``text`` with long unspaced runs broken and, if asked, no longer than ``max_tokens`` can ever need.

    Args:
        text: Any text.
        max_tokens: What the model sees, in tokens; None keeps the whole text.
    """
    if max_tokens is not None:
        text = text[: max_tokens * CHARS_PER_TOKEN]
    if len(text) <= LONGEST_RUN:
        return text
    return _LONG.sub(lambda m: m.group() + " ", text)
