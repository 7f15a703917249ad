"""Counting a text's tokens exactly as the model will, without loading the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.errors import SlotUnavailable
from indexer.models import recipe
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
        stamp: 12 hex characters; equal stamps count every text alike.
        path: The file it was read from, for ``open_counter``; empty if from none.
    """

    __slots__ = ("_tokenizer", "_words", "limit", "path", "stamp")

    def __init__(self, tokenizer: Tokenizer, limit: int, stamp: str, path: str = "") -> None:
        self._tokenizer = tokenizer
        self._words = of_words(tokenizer)
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
        offsets = self._tokenizer.encode(cut(text), add_special_tokens=False).offsets
        at = breaks(text) if len(text) > LONGEST_RUN else []
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
    return Tokens(tokenizer, limit, _stamp(path, limit), str(path))


def open_counter(path: str, limit: int, stamp: str) -> Tokens:
    """Open the tokenizer that another process has opened, by what its ``Tokens`` say.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``offline_missing`` when its file is damaged, gone, or another by now.
        OSError: It cannot be read.
    """
    tokenizer = read_tokenizer(Path(path))
    if _stamp(Path(path), limit) != stamp:
        raise SlotUnavailable("corrupt_files", f"{path} has been replaced.", "Restart folder-mcp.")
    return Tokens(tokenizer, limit, stamp, path)


def _stamp(path: Path, limit: int) -> str:
    what = f"{limit}\n{LONGEST_RUN}\n{SEGMENT}\n".encode()
    return hashlib.sha256(what + path.read_bytes()).hexdigest()[:12]


def read_tokenizer(path: Path) -> Tokenizer:
    """Read ``tokenizer.json`` and switch off the truncation and padding it may carry.

    Raises:
        SlotUnavailable: As ``open_tokenizer``.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415

    try:
        # Read here, not by the library: its errors do not tell a missing file from a damaged one.
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except FileNotFoundError as e:
        raise SlotUnavailable("offline_missing", f"{path} is gone.", "Pull the model again.") from e
    except ValueError as e:
        raise SlotUnavailable(
            "corrupt_files", f"{path} is damaged: {e}", "Delete this model's files and pull it again."
        ) from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenizer_file(directory: str) -> Path:
    """Return the model's ``tokenizer.json``: of its first module, else of the directory itself."""
    own = Path(directory) / recipe.read(Path(directory)).root / "tokenizer.json"
    return own if own.is_file() else Path(directory) / "tokenizer.json"


def adds_special_tokens(spec: ModelSpec) -> bool:
    """Whether the model's texts get special tokens (averages of a static table do not)."""
    return recipe.read(Path(spec.directory)).special_tokens


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


# Cutting long texts -------------------------------------------------------------------------------------------------
# The one way text is shortened before any tokenizer sees it, so that both runtimes and the chunker agree.

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


# Counting word by word ----------------------------------------------------------------------------------------------
# Token starts of a text from those of its words: most words of a text have been seen before.

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
