"""Frozen data that the packages pass to each other: locators, files and chunks, queries and answers.

Paths are absolute ``str`` as ``os.fsdecode`` gives them (undecodable bytes become lone surrogates; the store escapes
them). Times are seconds since the epoch (float), nanoseconds where the name says ``_ns``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

from indexer.errors import QueryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Locators -----------------------------------------------------------------------------------------------------------
# Where in a file a text stands, in one form for search, read and citation:
#
#     lines 12-40                     text, Markdown, source code
#     page 3                          PDF
#     slide 2                         presentations
#     sheet "Budget" rows 2-40        spreadsheets, CSV
#     section "Intro > Setup"         HTML, DOCX, EPUB: the heading path
#     part 2                          mail parts, mailbox messages
#     cell 4                          notebook cells
#
# In a unit longer than one chunk a locator has lines: ``page 3 lines 10-25`` counts the lines of the
# page's text as ``read`` shows it.

UnitKind = Literal["lines", "page", "slide", "sheet", "section", "part", "cell"]

_QUOTED_KINDS = {"sheet", "section"}
_PATTERN = re.compile(
    r"""^\s*(?:(?P<kind>page|p\.?|slide|sheet|section|part|cell|lines?|l)\s*)?
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<number>L?\d+(?:\s*[-\u2013:]\s*L?\d+)?))?
        (?:[\s,]*(?P<span>rows?|lines?|l)\s*(?P<start>\d+)(?:\s*[-\u2013:]\s*L?(?P<end>\d+))?)?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
_KIND_OF: dict[str, UnitKind] = {"p": "page", "p.": "page", "l": "lines", "line": "lines", "lines": "lines"}


@dataclass(frozen=True, slots=True)
class Locator:
    """A unit of a file and a span of lines (rows, for sheets) in it.

    Attributes:
        kind: What a unit of this kind of file is. ``lines`` means the file itself is the only unit.
        unit: Page, slide, part or cell number (from 1), sheet name or heading path; empty for ``lines``.
        start: First line, 1-based, of the file (``lines``) or of the unit; 0 when the whole unit is meant.
        end: Last line, inclusive; 0 when the whole unit is meant.
    """

    kind: UnitKind
    unit: str = ""
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        span = "" if not self.start else f"{self.start}-{self.end}" if self.end != self.start else f"{self.start}"
        if self.kind == "lines":
            return f"lines {span}" if span else "lines 1"
        unit = (
            '"' + self.unit.replace("\\", "\\\\").replace('"', '\\"') + '"'
            if self.kind in _QUOTED_KINDS
            else self.unit
        )
        word = "rows" if self.kind == "sheet" else "lines"
        return f"{self.kind} {unit} {word} {span}" if span else f"{self.kind} {unit}"

    @classmethod
    def parse(cls, text: str) -> Locator:
        """Parse a locator, tolerant of ``12-40``, ``L12-L40``, ``p. 3``, commas and case.

        Raises:
            QueryError: The text is none of the forms above.
        """
        match = _PATTERN.match(text)
        if match is None or not text.strip():
            raise QueryError(_unclear(text))
        word = (match["kind"] or "lines").lower()
        kind: UnitKind = _KIND_OF.get(word) or word  # type: ignore[assignment]  # the pattern admits only kinds
        start, end = int(match["start"] or 0), int(match["end"] or match["start"] or 0)
        if match["quoted"] is not None and kind in _QUOTED_KINDS:
            return cls(kind, re.sub(r"\\(.)", r"\1", match["quoted"]), start, max(start, end))
        if match["number"] is None or match["quoted"] is not None:
            raise QueryError(_unclear(text))
        numbers = [int(n) for n in re.findall(r"\d+", match["number"])]
        if kind == "lines":
            if match["span"]:
                raise QueryError(_unclear(text))
            return cls(kind, "", numbers[0], max(numbers))
        if kind in _QUOTED_KINDS or len(numbers) > 1:
            raise QueryError(_unclear(text))
        return cls(kind, str(numbers[0]), start, max(start, end))


@lru_cache(maxsize=4096)
def parse_stored(text: str) -> Locator | None:
    """Parse a locator from the index; None for one of another version that this one does not understand."""
    try:
        return Locator.parse(text)
    except QueryError:
        return None


def _unclear(text: str) -> str:
    return (
        f"locator {text[:80]!r} is not understood; use the locator of a hit, for example "
        '"lines 12-40", "page 3", "slide 2", "sheet \\"Budget\\" rows 2-40", "section \\"Intro > Setup\\"", "cell 4"'
    )


# Files and chunks ---------------------------------------------------------------------------------------------------

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
    r"""One addressable part of a document: the whole text, a page, a slide, a sheet, a section, a cell.

    Attributes:
        kind: Which kind of part; ``lines`` is the whole of a text file (a document then has one unit).
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
        units: Its parts in reading order, possibly none (an empty file).
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
        tokens: For each chunk, its search tokens separated by single spaces (see ``text.tokens``).
        reach: For each chunk, how many chunks before and after it add, or added, words to its tokens; empty when
            none do.
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
    """A chunk found by keyword or semantic search.

    Attributes:
        score: Higher is better: BM25 for keyword, cosine for semantic search; comparable within one list only.
    """

    chunk: StoredChunk
    score: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the index a search looks at.

    Attributes:
        folders: Roots to search, None for all.
        path_glob: Shell-style pattern matched, whatever the letter case, against the path below its root or the file
            name (``*`` within a part, ``**`` across parts), or against both if it begins with a root; None for all.
        modified_after: Only files modified after this time, seconds since the epoch; None for all.
        suffixes: Only files whose name ends in one of these, lower case without the dot; None for all.
        parts: Only these parts of the folders: a root, and the path below it (empty for all of it); a glob is then
            matched against the path below the part. None for the folders as a whole.
    """

    folders: tuple[str, ...] | None = None
    path_glob: str | None = None
    modified_after: float | None = None
    suffixes: tuple[str, ...] | None = None
    parts: tuple[tuple[str, str], ...] | None = None


# Queries and answers ------------------------------------------------------------------------------------------------
# The text in ``Annotated`` is the field's description in the published schema.

Mode = Literal["hybrid", "semantic", "keyword"]
EVERYWHERE = Scope()
MAX_TOP_K = 50
"""Hits of one answer at most."""
MAX_OFFSET = 1_000
"""Hits that can be skipped."""
MAX_QUERY = 2_000
"""Characters of a query; the rest of a longer one would only blur its meaning."""
MAX_CONTEXT = 3
"""Neighbours on each side of a hit at most: beyond that, ``read`` the place."""
MIN_CHARS, MAX_CHARS = 200, 20_000
"""Bounds of ``Query.max_chars``."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a person or a model asks.

    Attributes:
        text: The question or words.
        top_k: How many hits, 1 to 50.
        offset: How many hits to skip (pagination).
        scope: Where to look.
        mode: Keyword search, semantic search, or both.
        context: Chunks of the same unit shown before and after each hit, 0 to 3.
        max_chars: Characters of all snippets together, 200 to 20,000; None for up to 700 a hit.
    """

    text: str
    top_k: int = 8
    offset: int = 0
    scope: Scope = EVERYWHERE
    mode: Mode = "hybrid"
    context: int = 0
    max_chars: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        path: Absolute path.
        folder: The root it belongs to.
        locator: Where in the file, neighbours included, as ``read`` takes it.
        heading: Heading path, or empty.
        snippet: The passage, cut around the match.
        score: Relative strength, 1.0 for the best hit of the answer; comparable within one answer only.
        matched: Which searches found it.
        modified: The file's modification time, seconds since the epoch.
        stale: The file has changed since it was indexed (re-indexing is queued).
        folded: How many overlapping or near-duplicate chunks were folded into this hit.
    """

    path: str
    folder: str
    locator: str
    heading: str
    snippet: str
    score: float
    matched: tuple[Literal["semantic", "keyword"], ...]
    modified: float
    stale: bool
    folded: int = 0


@dataclass(frozen=True, slots=True)
class Semantic:
    """What the search by meaning contributed."""

    status: Annotated[
        Literal["served", "partial", "unavailable", "off"],
        "served: all of the text was compared; partial: only what is embedded so far; "
        "unavailable: hits are by word only; off: keyword mode was asked for.",
    ]
    coverage: Annotated[float, "Share of the text in scope that can be found by meaning, 0 to 1."]
    code: Annotated[str, "Stable word for the reason; empty when served."] = ""
    reason: Annotated[str, "Why it is not fully served; empty when it is."] = ""
    hint: Annotated[str, "What would help; may be empty."] = ""
    retry_after_s: Annotated[float | None, "Ask again after this many seconds; null when that would not help."] = None


@dataclass(frozen=True, slots=True)
class Reranking:
    """What the reranker did."""

    status: Annotated[
        Literal["served", "unavailable", "off"],
        "served: it ordered the best places; unavailable: the order is that of the two halves; "
        "off: the query was none for it.",
    ]
    model: Annotated[str, "The reranker."]
    places: Annotated[int, "How many places it read."] = 0
    code: Annotated[str, "Stable word for the reason; empty when served."] = ""
    reason: Annotated[str, "Why it did not order them; empty when it did."] = ""
    hint: Annotated[str, "What would help; may be empty."] = ""
    retry_after_s: Annotated[float | None, "Ask again after this many seconds; null when that would not help."] = None
    elapsed_ms: Annotated[float, "Time it took, loading included, in milliseconds."] = 0.0


@dataclass(frozen=True, slots=True)
class FolderCoverage:
    """How much of one searched folder the answer could see."""

    path: Annotated[PathName, "The folder."]
    model: Annotated[str, "The model that embeds it."]
    files_indexed: Annotated[int, "Files that are searchable by word."]
    files_pending: Annotated[int, "Files found but not read yet."]
    coverage: Annotated[float, "Share of its text that can be found by meaning, 0 to 1."]


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, and how far they can be trusted.

    Attributes:
        hits: Best first, at most ``top_k``.
        mode_used: Which searches took part.
        semantic: What semantic search contributed.
        folders: Coverage of each folder searched.
        next_offset: Offset of the next page, None when there is none.
        notices: Sentences the reader should know (indexing in progress, folder unavailable, ...).
        elapsed_ms: Time taken, milliseconds.
        reranking: What the reranker did; None when none is configured.
    """

    hits: tuple[Hit, ...]
    mode_used: Mode
    semantic: Semantic
    folders: tuple[FolderCoverage, ...]
    next_offset: int | None
    notices: tuple[str, ...]
    elapsed_ms: float
    reranking: Reranking | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The text of an indexed file around a locator.

    Attributes:
        path: Absolute path.
        locator: What is shown, as ``read`` takes it.
        text: The text itself, without numbers.
        first_line: Number of its first line in the unit, 1-based.
        units: Locators of the document's units (at most 50), to go on reading; empty for text files.
        total_lines: Lines of the unit.
        truncated: Whether the unit goes on after what is shown.
        next: Locator to go on with, or empty.
        stale: The file has changed since it was indexed.
    """

    path: str
    locator: str
    text: str
    first_line: int
    units: tuple[str, ...]
    total_lines: int
    truncated: bool
    next: str
    stale: bool
