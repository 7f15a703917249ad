"""Counting a text's tokens exactly as the model will, without loading the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.errors import SlotUnavailable
from indexer.model import recipe
from indexer.model.cut import LONGEST_RUN, breaks, cut
from indexer.model.embedder import ModelSpec
from indexer.model.word_starts import of_words

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
