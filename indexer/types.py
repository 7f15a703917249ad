"""What the rooms pass to each other: frozen data, no behaviour beyond deriving from itself.

Paths are absolute ``str`` as ``os.fsdecode`` gives them (undecodable bytes become lone surrogates); the store
escapes them at its door. Times are seconds since the epoch (float), nanoseconds where the name says ``_ns``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

from indexer.locator import Locator, UnitKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Matrix: TypeAlias = "NDArray[np.float32]"
"""float32 [n, dim], rows of unit length."""
Vector: TypeAlias = "NDArray[np.float32]"
"""float32 [dim], unit length."""

Outcome = Literal["indexed", "skipped", "failed"]


class Form(Enum):
    """How clients see a value; stands in ``Annotated`` beside what the field means."""

    TIMESTAMP = "ISO 8601 with zone"
    PATH = "as it is, or its file:// address where it cannot be written as plain text"
    ONE_LINE = "one line without hidden characters"


Timestamp = Annotated[float, Form.TIMESTAMP]
"""Seconds since the epoch."""
PathName = Annotated[str, Form.PATH]
"""Absolute path."""
OneLine = Annotated[str, Form.ONE_LINE]
"""Text for people that may quote names of files or messages of libraries."""


class File(NamedTuple):  # made for every file of every walk: a frozen dataclass takes three times as long
    """A regular file the walk found.

    Attributes:
        path: Absolute path.
        folder: The configured root it was found under, absolute and resolved.
        size: Bytes.
        mtime_ns: Modification time in nanoseconds.
    """

    path: str
    folder: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Unit:
    r"""One addressable place of a document: the whole text, a page, a slide, a sheet, a section, a cell.

    Attributes:
        kind: Which kind of place; ``lines`` is the whole of a text file (a document then has one unit).
        name: Page, slide, part or cell number from 1, sheet name, heading path; empty for ``lines``.
        text: Its text, lines separated by ``\\n`` (``lines`` units keep the file's own line ends).
        heading: Heading path the unit stands under, parts joined by `` > ``; empty if none.
    """

    kind: UnitKind
    name: str
    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        units: Its places in reading order, possibly none (an empty file).
        syntax: How the text is built, for the chunker: ``markdown``, ``rst``, ``text``, or a language name
            such as ``python``.
        parser: Name and version of what read it, for example ``plain/1`` or ``pdf/1``.
        title: The document's own title, or empty.
    """

    units: tuple[Unit, ...]
    syntax: str
    parser: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one unit, small enough for the model to see whole.

    Attributes:
        ordinal: Position in the document from 0.
        text: An exact slice of its unit's text.
        heading: Heading path (or enclosing class and function), parts joined by `` > ``; empty if none.
        locator: Where it stands.
    """

    ordinal: int
    text: str
    heading: str
    locator: Locator

    @property
    def passage(self) -> str:
        """What the model embeds: the heading path on a line of its own, then the text."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True)
class FileRow:
    """What the index knows of a file; the manifest is all of these.

    Attributes:
        path: Absolute path.
        folder: The root it belongs to.
        size: Bytes when it was read.
        mtime_ns: Modification time when it was read.
        sha256: Hex digest of its bytes, empty when it was never read whole.
        parser: Name and version of the parser, empty when none ran.
        recipe: Stamp of everything else that shaped the chunks (chunker version, token limit, tokenizer).
        outcome: ``indexed``, ``skipped`` or ``failed``.
        reason: Why it was skipped or failed, one sentence; empty when indexed.
        chunks: Number of chunk rows.
        attempts: How often reading this very version (size and mtime) has failed.
        indexed_at: When this row was written, seconds since the epoch.
        language: ISO 639-1 code of its text, empty when it shows none, None when nobody looked.
    """

    path: str
    folder: str
    size: int
    mtime_ns: int
    sha256: str
    parser: str
    recipe: str
    outcome: Outcome
    reason: str
    chunks: int
    attempts: int
    indexed_at: float
    language: str | None = None


@dataclass(frozen=True, slots=True)
class FileWrite:
    """One file's replacement in the index: its row, its chunks, and the words the keyword index sees.

    Attributes:
        row: The file row; ``row.chunks == len(chunks)``.
        chunks: Its chunks in order.
        tokens: For each chunk, its search tokens separated by single spaces (see ``text.words``).
        reach: For each chunk, how far before and after it, in chunks, others have or had a part in its tokens; empty
            when none has.
    """

    row: FileRow
    chunks: tuple[Chunk, ...] = ()
    tokens: tuple[str, ...] = ()
    reach: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as the index returns it.

    Attributes:
        chunk_id: 32 hex characters: hash of path, passage and the passage's occurrence in the file.
        text_hash: 32 hex characters: hash of the passage alone; equal passages have equal vectors.
        locator: Text form of the ``Locator``.
    """

    chunk_id: str
    path: str
    folder: str
    ordinal: int
    text: str
    heading: str
    locator: str
    text_hash: str

    @property
    def passage(self) -> str:
        """What the model embeds, as ``Chunk.passage``."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk found by one leg of a search.

    Attributes:
        score: Higher is better: BM25 for keyword, cosine for vectors; comparable within one leg only.
    """

    chunk: StoredChunk
    score: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the index a search looks at.

    Attributes:
        folders: Roots to search, None for all.
        path_glob: Shell-style pattern matched against the path below its root or the file name
            (``*`` within a part, ``**`` across parts), None for all.
        modified_after: Only files modified after this time, seconds since the epoch; None for all.
        suffixes: Only files whose name ends in one of these, lower case without the dot; None for all.
    """

    folders: tuple[str, ...] | None = None
    path_glob: str | None = None
    modified_after: float | None = None
    suffixes: tuple[str, ...] | None = None
