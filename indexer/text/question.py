"""What a query looks like: the few plain facts about it that decide how keyword and meaning are weighed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from indexer.text.language import detect
from indexer.text.tokens import phrases, weighted_tokens

Kind = Literal["identifier", "words", "question"]

_WRITTEN_LIKE_CODE = re.compile(
    r"""\w_\w | _\w+ | [a-z][A-Z] | [A-Z]{2}[a-z]{2} | :: | -> | \(\)      # snake_case, camelCase, scope, call
      | \w\.[A-Za-z_]\w | [\\/]\w | ^--?\w | ^[@$]\w                      # dotted name, path, flag, decorator
      | [A-Za-z]\d | \d[A-Za-z] | \d\.\d | ^\d{3,}$ | ^\#?[0-9a-f]{7,}$   # E0308, 0x80070005, 1.2.3, 404, a hash
      | ^[A-Z]{2,}(?:[-_]?\d+)?$                                          # ENOENT, HTTP, SHA-256
    """,
    re.VERBOSE,
)
_QUESTION_WORDS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """A query, read.

    Attributes:
        text: As it was asked.
        tokens: What the keyword index is asked for, each as often as it weighs.
        phrases: What stood in quotes.
        language: ISO 639-1 code, or empty when it does not show.
        kind: ``identifier`` when every word is written like code (a name, a path, a version, an error code) or
            everything stands in quotes; ``question`` when it has at least four words and none is written like
            code; ``words`` for all others.
    """

    text: str
    tokens: tuple[str, ...]
    phrases: tuple[str, ...]
    language: str
    kind: Kind


def read_question(text: str) -> Question:
    """Read a query: its tokens, quoted phrases, language and kind."""
    quoted = tuple(phrases(text))
    return Question(text, tuple(weighted_tokens(text)), quoted, detect(text), _kind(text, quoted))


def _kind(text: str, quoted: tuple[str, ...]) -> Kind:
    rest = text
    for phrase in quoted:
        rest = rest.replace(phrase, " ")
    plain = [word for word in (part.strip("\"'“”„«»「」,;:!?.()[]{}") for part in rest.split()) if word]
    if quoted and not plain:
        return "identifier"
    coded = sum(1 for part in rest.split() if _WRITTEN_LIKE_CODE.search(part.strip("\"',;:!?.")))
    if plain and coded >= len(plain):
        return "identifier"
    # Scripts without spaces: four words are about eight characters.
    long_enough = len(plain) >= _QUESTION_WORDS or (not text.isascii() and len(text) >= 8 and len(plain) <= 2)
    return "question" if not coded and not quoted and long_enough else "words"
