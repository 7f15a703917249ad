"""Token starts of a text from those of its words: most words of a text have been seen before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from indexer.model.cut import LONGEST_RUN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST = 1 << 16
"""Words and pieces remembered; beyond that all are forgotten at once (about 10 MB)."""

_SPACES = " \t\n\r"
_WORD = re.compile(rf"[^{_SPACES}]+")
_PIECE = re.compile("[A-Za-z0-9]+|[!-/:-@\\[-`{-~]")

Starts = Callable[[str], Sequence[int]]
"""Where each token of a text starts, as the tokenizer itself says."""


class WordStarts:
    """Where tokens start, for tokenizers that treat each word by itself, whatever stands around it.

    Those of BERT do: white space parts words, ASCII punctuation parts a word into pieces, and each piece is looked
    up in the vocabulary alone. So a text's tokens are those of its words, moved to where the word stands; only words
    not seen before go through the tokenizer, all of a text in one call. Threads may share it: at worst a word is
    tokenized twice.
    """

    __slots__ = ("_known", "_whole")

    def __init__(self, whole: Sequence[str]) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        self._whole = whole

    def __call__(self, text: str, starts: Starts) -> list[int]:
        """Return where each token of ``text`` starts; ``starts`` is asked about what has not been seen."""
        if len(self._known) > MOST:
            self._known = {}
        known = self._known
        found = [(match.start(), match[0]) for match in _WORD.finditer(text)]
        new = {word for _, word in found if word not in known}
        if new:
            self._learn(new, known, starts)
        return [base + start for base, word in found for start in known[word]]

    def _learn(self, words: Iterable[str], known: dict[str, tuple[int, ...]], starts: Starts) -> None:
        composed: dict[str, list[tuple[int, str]]] = {}
        asked: set[str] = set()
        for word in words:
            pieces = [] if any(mark in word for mark in self._whole) else _pieces(word)
            if len(pieces) < 2:
                asked.add(word)
            else:
                composed[word] = pieces
                asked.update(piece for _, piece in pieces if piece not in known)
        _ask(sorted(asked), known, starts)
        for word, pieces in composed.items():
            known[word] = tuple(base + start for base, piece in pieces for start in known[piece])


def of_words(tokenizer: Tokenizer) -> WordStarts | None:
    """Return what remembers the words of ``tokenizer``, None if its tokens depend on more than the word."""
    kinds = (type(tokenizer.normalizer).__name__, type(tokenizer.pre_tokenizer).__name__)
    normal = tokenizer.normalizer is None or kinds[0] == "BertNormalizer"
    if not normal or kinds[1] != "BertPreTokenizer" or type(tokenizer.model).__name__ != "WordPiece":
        return None
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip or token.single_word or " " in token.content for token in added):
        return None
    # Such as [MASK]: taken out of a text before it is cut into words, and so never to be cut into pieces.
    whole = {form for token in added for form in (token.content, token.content.lower(), token.content.upper())}
    return WordStarts(sorted(whole))


def _pieces(word: str) -> list[tuple[int, str]]:
    """The pieces of a word of printable ASCII and where they begin; none for other words, and those to be broken."""
    if len(word) > LONGEST_RUN or not (word.isascii() and word.isprintable()):
        return []
    return [(match.start(), match[0]) for match in _PIECE.finditer(word)]


def _ask(words: Sequence[str], known: dict[str, tuple[int, ...]], starts: Starts) -> None:
    """Learn words, all in one text with spaces between them."""
    found = starts(" ".join(words))
    at = base = 0
    for word in words:
        end = base + len(word)
        first = at
        while at < len(found) and found[at] < end:
            at += 1
        known[word] = tuple(start - base for start in found[first:at])
        base = end + 1
