"""Makes text from the user's files safe to show to a model or on a terminal.

A file may contain instructions for the model that reads it (prompt injection). We cannot judge text, but we can make
sure that it cannot be invisible (tag characters, reversed direction), cannot control a terminal (escape sequences),
and cannot pretend to have ended (a fence with a new random number for every answer).
Secrets are blanked in documents before (``indexer.text.secrets``); here in sentences that quote names or queries.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

# C0 and C1 controls without tab and line feed; bidirectional controls; interlinear marks; tag characters;
# lone surrogates, which no JSON writer accepts. Zero-width joiners stay: emoji, Persian and Hindi need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINE_BREAKS = re.compile("\r\n|\r|\u2028|\u2029")
_BLANKS = re.compile("[\x0b\x0c\x85]")
# Ideographic variation selectors belong after an ideograph; anywhere else they can carry hidden bytes.
_SELECTORS = re.compile("(?<![\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]+")


def clean(text: str) -> str:
    """Return ``text`` without hidden characters, every line break as ``\\n``."""  # noqa: D301 - the escape is shown
    text = _BLANKS.sub(" ", _LINE_BREAKS.sub("\n", text))
    return _SELECTORS.sub("", _HIDDEN.sub("", text))


def one_line(text: str) -> str:
    """Return ``text`` cleaned, with runs of white space made one space."""
    return " ".join(clean(text).split())


def sentence(text: str) -> str:
    """Return one line for people that may quote a path, a query or a library's error: cleaned, its secrets blanked."""
    return without_secrets(one_line(text))


def without_secrets(text: str) -> str:
    """Return ``text`` with every secret blanked."""
    from indexer.text.secrets import blank  # noqa: PLC0415 - 15 ms that a command without errors does not need

    return blank(text).text


def shown_path(path: str) -> str:
    """Return a path as clients see it, and as ``read`` takes it back.

    The path itself, unless it has characters that would be removed (or bytes that are not text): then its
    ``file://`` address, which writes them as percent escapes.
    """
    return path if path == one_line_path(path) else uri(path)


def one_line_path(path: str) -> str:
    """Return ``path`` as it would look cleaned; differs from ``path`` when the path cannot be shown as it is."""
    return clean(path).replace("\n", "").replace("\t", "")


def uri(path: str) -> str:
    """Return the ``file://`` address of an absolute path."""
    return Path(path).as_uri()


class Fence:
    """Marks around quoted text, with a random number for each answer, so that no quoted text can close them."""

    def __init__(self) -> None:
        number = secrets.token_hex(4)
        self.begin = f"<<<file text {number}"
        self.end = f"file text {number}>>>"

    def around(self, text: str) -> str:
        """Return ``text`` between the marks."""
        return f"{self.begin}\n{text}\n{self.end}"
