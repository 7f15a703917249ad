"""A document made ready for the index: its chunks, the words the keyword index sees, its language. Pure CPU work."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.text.chunk import TokenCounter, chunk
from indexer.text.language import detect
from indexer.text.paragraph import surroundings
from indexer.text.secrets import redacted
from indexer.text.words import tokens
from indexer.types import Chunk, Document

_SHOWN = 8
"""Chunks whose text tells the language of a document."""


@dataclass(frozen=True, slots=True)
class CutOrder:
    """How a file is to be cut, as far as a process without a model needs to be told.

    Attributes:
        tokenizer: Path of the tokenizer's file; empty when there is none, and the file is cut where it was asked for.
        limit: Tokens of a passage that the model sees.
        stamp: What the tokenizer's stamp must be: the file may have been replaced since.
        name: The file's path below its root.
        unless: A file whose content has this SHA-256 is not cut; empty for none.
    """

    tokenizer: str
    limit: int
    stamp: str
    name: str
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """A document cut.

    Attributes:
        chunks: Its chunks in order, those with secrets left out.
        tokens: For each chunk, its search tokens separated by single spaces.
        language: ISO 639-1 code of its text, empty when it shows none.
        dropped: How many chunks held secrets.
        reach: As ``FileWrite.reach``.
    """

    chunks: tuple[Chunk, ...]
    tokens: tuple[str, ...]
    language: str
    dropped: int
    reach: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file read and cut, and the very version of it that was.

    Attributes:
        parser: Name and version of what read it.
        sha256: Hex digest of its bytes.
        size: Their number.
        mtime_ns: Modification time in nanoseconds.
        ready: What it holds; None when the content is what ``CutOrder.unless`` says.
    """

    parser: str
    sha256: str
    size: int
    mtime_ns: int
    ready: Ready | None


def ready(document: Document, counter: TokenCounter, limit: int, name: str) -> Ready:
    """Cut a document into chunks of at most ``limit`` tokens, with the search tokens of each."""
    chunks, dropped = redacted(chunk(document, counter, limit))
    language = detect("\n".join(c.text for c in chunks[:_SHOWN]))
    if not language:  # code, tables, names: no paragraphs
        return Ready(chunks, tuple(tokens(c.text, c.heading, name, "") for c in chunks), "", dropped)
    around = surroundings(document, chunks)
    words = tuple(tokens(c.text, c.heading, name, language, a.texts) for c, a in zip(chunks, around, strict=True))
    return Ready(chunks, words, language, dropped, tuple(a.reach for a in around))
