"""Question and answer: what a client asks and what it gets.

The text in ``Annotated`` is the field's description in the published schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from indexer.types import PathName, Scope

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
        offset: How many hits to pass over (pagination).
        scope: Where to look.
        mode: Which legs to use.
        context: Chunks of the same unit shown before and after each hit, 0 to 3.
        max_chars: Characters of all snippets together, 200 to 20,000; None for a screenful a hit.
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
    """One place that answers.

    Attributes:
        path: Absolute path.
        folder: The root it belongs to.
        locator: Where in the file, neighbours included, as ``read`` takes it.
        heading: Heading path, or empty.
        snippet: The passage, cut around the match.
        score: Relative strength, 1.0 for the best hit of the answer; comparable within one answer only.
        matched: Which legs found it.
        modified: The file's modification time, seconds since the epoch.
        stale: The file has changed since it was indexed (re-indexing is queued).
        folded: How many overlapping or near-duplicate places this hit stands for beside itself.
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
        mode_used: Which legs really ran.
        semantic: What the meaning half did.
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
        locator: The place shown, as ``read`` takes it.
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
