"""A model's tokenizer for counting tokens, exactly as the model counts them, without loading the model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.errors import SlotUnavailable
from indexer.models.recipe import read_recipe
from indexer.slot.embedder import ModelSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer


SEGMENT = 32_768
"""Characters tokenised in one call: bounds the memory of one answer (about 100 bytes a token)."""

_SPACE = re.compile(r"\s")


class Tokens:
    """A model's tokenizer for measuring text; nothing in it changes, so any number of threads may use it.

    Attributes:
        limit: Tokens left for a passage's own text after special tokens and the passage prompt.
        stamp: 12 hex characters; tokenizers of equal stamps count every text alike.
        path: The file it was read from, for ``open_counter``; empty if none.
    """

    __slots__ = ("_tokenizer", "_words", "limit", "path", "stamp")

    def __init__(self, tokenizer: Tokenizer, limit: int, stamp: str, path: str = "") -> None:
        self._tokenizer = tokenizer
        self._words = word_starts_for(tokenizer)
        self.limit = limit
        self.stamp = stamp
        self.path = path

    def starts(self, text: str) -> list[int]:
        """Return where each token of ``text`` starts: character offsets, ascending, no special tokens."""
        found: list[int] = []
        for base, segment in _segments(text):
            starts = self._segment(segment) if self._words is None else self._words(segment, self._segment)
            found.extend([base + start for start in starts] if base else starts)
        return found

    def count(self, text: str) -> int:
        """Return how many tokens ``text`` has, special tokens not counted."""
        return len(self.starts(text))

    def _segment(self, text: str) -> list[int]:
        offsets = self._tokenizer.encode(break_long_runs(text), add_special_tokens=False).offsets
        at = break_offsets(text) if len(text) > LONGEST_RUN else []
        if not at:
            return [start for start, _ in offsets]
        exact, inserted = [], 0
        for start, _ in offsets:
            while inserted < len(at) and start - inserted > at[inserted]:
                inserted += 1
            exact.append(min(start - inserted, len(text)))
        return exact


def open_tokenizer(spec: ModelSpec) -> Tokens:
    """Open the tokenizer of ``spec`` for measuring (torch is not needed and not imported).

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``offline_missing`` when its file is damaged or gone, ``incompatible``
            when the prompt leaves no room for text.
    """
    path = tokenizer_file(spec.directory)
    tokenizer = read_tokenizer(path)
    specials = tokenizer.num_special_tokens_to_add(is_pair=False) if adds_special_tokens(spec) else 0
    prompt = len(tokenizer.encode(spec.passage_prompt, add_special_tokens=False).ids) if spec.passage_prompt else 0
    limit = spec.max_tokens - specials - prompt
    if limit < 1:
        raise SlotUnavailable(
            "incompatible",
            f"The passage prompt of {spec.name} fills its window of {spec.max_tokens} tokens.",
            "Choose another model.",
        )
    return Tokens(tokenizer, limit, _stamp(_content(path), limit), str(path))


def open_counter(path: str, limit: int, stamp: str, file: FileIO | None = None) -> Tokens:
    """Open a tokenizer that another process has opened, by the attributes of its ``Tokens``.

    Args:
        path: See ``Tokens``.
        limit: Likewise.
        stamp: Likewise.
        file: The file at ``path``, open, for a process that may not open it.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``offline_missing`` when its file is damaged, gone, or another by now.
        OSError: It cannot be read.
    """
    content = _content(Path(path)) if file is None else file.readall()
    tokenizer = _tokenizer_of(Path(path), content)
    if _stamp(content, limit) != stamp:
        raise SlotUnavailable("corrupt_files", f"{path} has been replaced.", "Restart folder-mcp.")
    return Tokens(tokenizer, limit, stamp, path)


def _stamp(content: bytes, limit: int) -> str:
    what = f"{limit}\n{LONGEST_RUN}\n{SEGMENT}\n".encode()
    return hashlib.sha256(what + content).hexdigest()[:12]


def read_tokenizer(path: Path) -> Tokenizer:
    """Read ``tokenizer.json`` and switch off the truncation and padding it may carry.

    Raises:
        SlotUnavailable: As ``open_tokenizer``.
    """
    return _tokenizer_of(path, _content(path))


def _content(path: Path) -> bytes:
    # Not read by the library: its errors do not distinguish a missing file from a damaged one.
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise SlotUnavailable("offline_missing", f"{path} is gone.", "Pull the model again.") from e


def _tokenizer_of(path: Path, content: bytes) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - a start imports this module

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as e:
        raise SlotUnavailable(
            "corrupt_files", f"{path} is damaged: {e}", "Delete this model's files and pull it again."
        ) from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def counts_a_sample() -> bool:
    """Whether the library counts the words of a small text right in this process, by a vocabulary of two words."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - a start imports this module

    small = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"sample": 0, "other": 1}, "unk_token": "other"},
    }
    return len(Tokenizer.from_str(json.dumps(small)).encode("sample of a text").ids) == 4


def tokenizer_file(directory: str) -> Path:
    """Return the model's ``tokenizer.json``: of its first module, else of the directory itself."""
    own = Path(directory) / read_recipe(Path(directory)).root / "tokenizer.json"
    return own if own.is_file() else Path(directory) / "tokenizer.json"


def adds_special_tokens(spec: ModelSpec) -> bool:
    """Whether the model's texts get special tokens (averages of a static table do not)."""
    return read_recipe(Path(spec.directory)).special_tokens


def _segments(text: str) -> Iterator[tuple[int, str]]:
    """Yield pieces of at most about ``SEGMENT`` characters and where they start, cut in front of white space."""
    start, size = 0, len(text)
    while start < size:
        end = start + SEGMENT
        if end < size:
            space = _SPACE.search(text, end, end + LONGEST_RUN)
            end = space.start() if space else end
        yield start, text[start:end]
        start = end


# Long runs ----------------------------------------------------------------------------------------------------------
# The only way in which text is changed before a tokenizer gets it, so that both runtimes and the chunker agree.

LONGEST_RUN = 512
"""Characters without a space that stay together.

Tokenizers cache pieces of whole unspaced strings, and some search them in more than linear time; words and URLs
are shorter than this, base64 and minified code are not.
"""
CHARS_PER_TOKEN = 64
"""Upper bound of the average length of a token, characters: ordinary text has 2 to 6."""

_LONG = re.compile(rf"\S{{{LONGEST_RUN}}}(?=\S)")


def break_offsets(text: str) -> list[int]:
    """Return the offsets at which a space is inserted: after every ``LONGEST_RUN`` characters without one."""
    return [m.end() for m in _LONG.finditer(text)]


def break_long_runs(text: str, max_tokens: int | None = None) -> str:
    """Return ``text`` with a space in long unspaced runs; with ``max_tokens`` also cut to what so many can cover.

    Args:
        text: Any text.
        max_tokens: How much the model takes, in tokens; None keeps the whole text.
    """
    if max_tokens is not None:
        text = text[: max_tokens * CHARS_PER_TOKEN]
    if len(text) <= LONGEST_RUN:
        return text
    return _LONG.sub(lambda m: m.group() + " ", text)


# Counting word by word ----------------------------------------------------------------------------------------------
# A cache of each word's token starts: most words of a text have been seen before.

MAX_REMEMBERED = 1 << 16
"""Words and pieces in the cache (about 10 MB); a larger one is emptied."""

_SPACES = " \t\n\r"
_WORD = re.compile(rf"[^{_SPACES}]+")
_PIECE = re.compile("[A-Za-z0-9]+|[!-/:-@\\[-`{-~]")

Starts = Callable[[str], Sequence[int]]
"""Returns where each token of a text starts, by the tokenizer itself."""


class WordStarts:
    """Token starts, for tokenizers that treat each word independently of its neighbours.

    Those of BERT do: white space separates words, ASCII punctuation splits a word into pieces, and each piece is
    looked up in the vocabulary by itself. So a text's tokens are those of its words, shifted to the word's position;
    only words that are not in the cache go through the tokenizer, all of a text in one call. Threads may share it: at
    worst a word is tokenized twice.
    """

    __slots__ = ("_indivisible", "_known")

    def __init__(self, indivisible: Sequence[str]) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        self._indivisible = indivisible

    def __call__(self, text: str, starts: Starts) -> list[int]:
        """Return where each token of ``text`` starts; ``starts`` is called for the words that are not in the cache."""
        if len(self._known) > MAX_REMEMBERED:
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
            pieces = [] if any(mark in word for mark in self._indivisible) else _split_word(word)
            if len(pieces) < 2:
                asked.add(word)
            else:
                composed[word] = pieces
                asked.update(piece for _, piece in pieces if piece not in known)
        _learn_words(sorted(asked), known, starts)
        for word, pieces in composed.items():
            known[word] = tuple(base + start for base, piece in pieces for start in known[piece])


def word_starts_for(tokenizer: Tokenizer) -> WordStarts | None:
    """Return a cache for the words of ``tokenizer``, None if its tokens depend on more than the word."""
    kinds = (type(tokenizer.normalizer).__name__, type(tokenizer.pre_tokenizer).__name__)
    normal = tokenizer.normalizer is None or kinds[0] == "BertNormalizer"
    if not normal or kinds[1] != "BertPreTokenizer" or type(tokenizer.model).__name__ != "WordPiece":
        return None
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip or token.single_word or " " in token.content for token in added):
        return None
    # Such as [MASK]: found in a text before it is split into words, and therefore never split into pieces.
    indivisible = {form for token in added for form in (token.content, token.content.lower(), token.content.upper())}
    return WordStarts(sorted(indivisible))


def _split_word(word: str) -> list[tuple[int, str]]:
    """The pieces of a word of printable ASCII and where they start; none for other and for overlong words."""
    if len(word) > LONGEST_RUN or not (word.isascii() and word.isprintable()):
        return []
    return [(match.start(), match[0]) for match in _PIECE.finditer(word)]


def _learn_words(words: Sequence[str], known: dict[str, tuple[int, ...]], starts: Starts) -> None:
    """Tokenize words, all in one text with spaces between them, and store their token starts."""
    found = starts(" ".join(words))
    at = base = 0
    for word in words:
        end = base + len(word)
        first = at
        while at < len(found) and found[at] < end:
            at += 1
        known[word] = tuple(start - base for start in found[first:at])
        base = end + 1
