"""Keyword and semantic results made one ranking by weighted reciprocal rank, and similar chunks of it folded.

The base is reciprocal rank fusion (Cormack, Clarke, Buettcher 2009, k = 60): a list gives a chunk at rank r
``1 / (k + r)``. Ranks, not scores, because BM25 and the cosines of different models share no scale. Fused without
regard to what the lists are good at, a list of noise harms the others; so each list votes only where it is competent:

1. *Language.* A model votes only on queries and chunks in languages it knows. Where it does not know the query's
   language, keywords alone rank, and what only the vectors found follows after. A query too short to show its
   language is taken to be in the language of the chunks that its words found.
2. *Missing vectors.* A chunk in a folder for which no model answered loses nothing by that: it gets the vote that the
   other keyword hits got from the models on average (its own keyword vote once more when there are none).
3. *Kind of query.* For a name, path, version or error code the keyword list weighs more, because it matches exactly.
   For a question in words that finds mostly source code the semantic lists weigh more, because code rarely repeats the
   words of a question. In all other cases both weigh the same.
4. *Exact names.* A query that is, word for word, the heading of a section or the name of a file asks for exactly that:
   what keyword search found there goes first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Literal, TypeAlias

from indexer.text.chunk import SHORT
from indexer.text.language import detect
from indexer.text.structure import JOINT
from indexer.text.tokens import matches, phrases, plain, weighted_tokens
from indexer.types import Locator, Scored, StoredChunk, parse_stored

# The query ----------------------------------------------------------------------------------------------------------

QueryKind = Literal["identifier", "words", "question"]

_LOOKS_LIKE_CODE = re.compile(
    r"""\w_\w | _\w+ | [a-z][A-Z] | [A-Z]{2}[a-z]{2} | :: | -> | \(\)      # snake_case, camelCase, scope, call
      | \w\.[A-Za-z_]\w | [\\/]\w | ^--?\w | ^[@$]\w                      # dotted name, path, flag, decorator
      | [A-Za-z]\d | \d[A-Za-z] | \d\.\d | ^\d{3,}$ | ^\#?[0-9a-f]{7,}$   # E0308, 0x80070005, 1.2.3, 404, a hash
      | ^[A-Z]{2,}(?:[-_]?\d+)?$                                          # ENOENT, HTTP, SHA-256
    """,
    re.VERBOSE,
)
_QUESTION_WORDS = 4
"""A query of at least this many words is a question."""


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query and the facts about it that decide how keyword and semantic results are weighed.

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
    kind: QueryKind


def parse_query(text: str) -> ParsedQuery:
    """Find a query's tokens, quoted phrases, language and kind."""
    quoted = tuple(phrases(text))
    return ParsedQuery(text, tuple(weighted_tokens(text)), quoted, detect(text), _kind(text, quoted))


def _kind(text: str, quoted: tuple[str, ...]) -> QueryKind:
    unquoted = text
    for phrase in quoted:
        unquoted = unquoted.replace(phrase, " ")
    words = [word for word in (part.strip("\"'“”„«»「」,;:!?.()[]{}") for part in unquoted.split()) if word]
    if quoted and not words:
        return "identifier"
    like_code = sum(1 for part in unquoted.split() if _LOOKS_LIKE_CODE.search(part.strip("\"',;:!?.")))
    if words and like_code >= len(words):
        return "identifier"
    # In scripts without spaces four words are about eight characters.
    long_enough = len(words) >= _QUESTION_WORDS or (not text.isascii() and len(text) >= 8 and len(words) <= 2)
    return "question" if not like_code and not quoted and long_enough else "words"


# Fusion -------------------------------------------------------------------------------------------------------------

K = 60
"""Rank constant of reciprocal rank fusion, as published."""
_FAVOURED_WEIGHT = 3.0
"""How much more the list weighs that the kind of query favours."""
_SAMPLE_CHARS = 600
"""Characters of a chunk from which its language is detected."""
_NON_VOTING_WEIGHT = 0.1
"""Weight of a list that does not vote: small enough to stay below every keyword hit up to rank 500."""
_CODE_SUFFIXES = frozenset(
    """.py .pyi .js .mjs .cjs .jsx .ts .tsx .go .rs .c .h .cc .cpp .cxx .hpp .hh .java .kt .scala .swift .rb .php .pl
    .pm .lua .sh .bash .zsh .ps1 .cs .fs .vb .m .mm .r .jl .ex .exs .erl .hs .ml .clj .lisp .el .vim .sql .dart .zig
    .nim .v .sv .vhd .asm .s .cu .proto .gradle .cmake""".split()  # noqa: SIM905  # sixty quoted literals hide it
)
_MARKS = dict.fromkeys(map(ord, '"“”„«»「」`*¶§'))

Method = Literal["semantic", "keyword"]
_Vote: TypeAlias = tuple[StoredChunk, float, Method]


@dataclass(frozen=True, slots=True)
class SemanticRanking:
    """What one model found.

    Attributes:
        hits: Nearest first.
        model_languages: ISO 639-1 codes the model was made for, None for multilingual or unknown.
        folders: Roots this model answered for completely or in part; None for all that were searched.
    """

    hits: Sequence[Scored]
    model_languages: frozenset[str] | None = None
    folders: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class RankedChunk:
    """A chunk in the common ranking.

    Attributes:
        score: Share of the best score of the answer, 0..1.
        matched: Which searches found it.
        folded: How many similar chunks were folded into it.
    """

    chunk: StoredChunk
    score: float
    matched: tuple[Method, ...]
    folded: int = 0


def fuse(keyword: Sequence[Scored], semantic: Sequence[SemanticRanking], query: ParsedQuery) -> list[RankedChunk]:
    """Fuse the lists of one query into one ranking, best first, by the rule in this module's docstring.

    Ties (two lists that swap two chunks make one) go to the better keyword rank, then by path, then by position in
    the file, so that equal queries get equal answers.

    Args:
        keyword: The BM25 ranking over everything searched, best first.
        semantic: One ranking for each model in use; empty when no model served.
        query: The query.
    """
    language = query.language or _language_of_hits(keyword)
    rankings = [(ranking, _knows_language(ranking, language)) for ranking in semantic]
    voting = [ranking for ranking, votes_here in rankings if votes_here]
    keyword_weight, semantic_weight = _weights(query, keyword, voting)
    keyword_rank = {hit.chunk.chunk_id: rank for rank, hit in enumerate(keyword)}
    votes: list[_Vote] = []
    for ranking, votes_here in rankings:
        judged = [hit.chunk for hit in ranking.hits if not votes_here or _knows_language_of(ranking, hit.chunk)]
        for rank, chunk in enumerate(judged, 1):
            weight = semantic_weight if votes_here else 0.0 if chunk.chunk_id in keyword_rank else _NON_VOTING_WEIGHT
            votes.append((chunk, weight / (K + rank), "semantic"))
    # A keyword hit that no voting model could see gets the average semantic vote of those that one could see.
    semantic_share = {chunk.chunk_id: share for chunk, share, _ in votes}
    covered = [any(_covers(ranking, hit.chunk) for ranking in voting) for hit in keyword]
    shares = [semantic_share.get(hit.chunk.chunk_id, 0.0) for hit, seen in zip(keyword, covered, strict=True) if seen]
    for rank, (hit, seen) in enumerate(zip(keyword, covered, strict=True), 1):
        missing = 0.0 if seen else sum(shares) / len(shares) if shares else semantic_weight / (K + rank)
        votes.append((hit.chunk, keyword_weight / (K + rank) + missing, "keyword"))
    most = (keyword_weight + semantic_weight) / (K + 1)
    votes += [(hit.chunk, most, "keyword") for hit in _exact_name_matches(query.text, keyword)]
    return _ranked(votes, keyword_rank)


def _ranked(votes: Sequence[_Vote], keyword_rank: dict[str, int]) -> list[RankedChunk]:
    """The chunks by the sum of their votes."""
    scores: dict[str, float] = {}
    methods: dict[str, set[Method]] = {}
    chunks: dict[str, StoredChunk] = {}
    for chunk, share, method in votes:
        key = chunk.chunk_id
        scores[key] = scores.get(key, 0.0) + share
        methods.setdefault(key, set()).add(method)
        chunks[key] = chunk
    best = max(scores.values(), default=1.0)

    # Rounded, so that the order of floating-point sums cannot decide a tie.
    def sort_key(key: str) -> tuple[float, int, str, int]:
        return -round(scores[key], 12), keyword_rank.get(key, len(votes)), chunks[key].path, chunks[key].ordinal

    order = sorted(chunks, key=sort_key)
    both: tuple[Method, ...] = ("semantic", "keyword")
    return [
        RankedChunk(chunks[key], scores[key] / best, tuple(method for method in both if method in methods[key]))
        for key in order
    ]


def _exact_name_matches(text: str, keyword: Sequence[Scored]) -> list[Scored]:
    """The hits whose own heading, or file name, is the query."""
    name = _normalized_name(text)
    return [
        hit
        for hit in keyword
        if name
        and name
        in (
            _normalized_name(hit.chunk.heading.rsplit(JOINT, 1)[-1]),
            _normalized_name(PurePath(hit.chunk.path).name),
        )
    ]


def _normalized_name(text: str) -> str:
    """``text`` for comparing names: without the marks that a text or a query puts around one."""
    return plain(text.translate(_MARKS)).rstrip("?!.:;, ")


def _covers(ranking: SemanticRanking, chunk: StoredChunk) -> bool:
    """Whether the model answered for the chunk's folder."""
    return ranking.folders is None or chunk.folder in ranking.folders


def _knows_language_of(ranking: SemanticRanking, chunk: StoredChunk) -> bool:
    return ranking.model_languages is None or _knows_language(ranking, _language_of(chunk.text[:_SAMPLE_CHARS]))


def _knows_language(ranking: SemanticRanking, language: str) -> bool:
    """Whether the ranking's model knows ``language``; an unknown language, the empty text, counts as known."""
    return ranking.model_languages is None or not language or language in ranking.model_languages


def _language_of_hits(keyword: Sequence[Scored]) -> str:
    """Language of the best five keyword hits, for a query too short to show its own; empty when they disagree."""
    languages = Counter(_language_of(hit.chunk.text[:_SAMPLE_CHARS]) for hit in keyword[:5])
    language, count = languages.most_common(1)[0] if languages else ("", 0)
    return language if 2 * count > languages.total() else ""


@lru_cache(maxsize=4096)
def _language_of(sample: str) -> str:
    return detect(sample)


def _weights(query: ParsedQuery, keyword: Sequence[Scored], voting: Sequence[SemanticRanking]) -> tuple[float, float]:
    """Weights of the keyword list and of each semantic list; the docstring of this module gives the rule."""
    if not voting:
        return 1.0, 0.0
    if query.kind == "identifier":
        return _FAVOURED_WEIGHT, 1.0
    if query.kind == "question" and _mostly_code([keyword, *(ranking.hits for ranking in voting)]):
        return 1.0, _FAVOURED_WEIGHT
    return 1.0, 1.0


def _mostly_code(lists: Sequence[Sequence[Scored]]) -> bool:
    """Whether most of the first ten of all lists together are source files."""
    top = [hit.chunk.path for hits in lists for hit in hits[:10]]
    return 2 * sum(PurePath(path).suffix.lower() in _CODE_SUFFIXES for path in top) > len(top)


# Matches that only the context has ----------------------------------------------------------------------------------

_CONTEXT_REACH = 8
"""Chunks on either side from which a short piece of a paragraph may have tokens."""


def drop_context_only_matches(keyword: Sequence[Scored], query: ParsedQuery) -> list[Scored]:
    """A keyword list without short chunks that match only by words of their paragraph, which they do not show.

    Such a chunk goes when a better hit stands near it in its file and neither its passage nor its path has any of
    the query's words.
    """
    tokens = frozenset(query.tokens)
    better: dict[str, list[int]] = {}
    kept = []
    for hit in keyword:
        chunk = hit.chunk
        near = better.setdefault(chunk.path, [])
        replaceable = len(chunk.text) < SHORT and any(abs(chunk.ordinal - at) <= _CONTEXT_REACH for at in near)
        near.append(chunk.ordinal)
        if not replaceable or _has_any(chunk, tokens, query.language):
            kept.append(hit)
    return kept


def _has_any(chunk: StoredChunk, tokens: frozenset[str], language: str) -> bool:
    """Whether a chunk itself has a word of the query, as its own language or the query's stems it."""
    text = f"{chunk.passage}\n{chunk.path.removeprefix(chunk.folder)}"
    return any(matches(text, tokens, known) for known in {detect(chunk.text), language})


# Folding ------------------------------------------------------------------------------------------------------------

MAX_PER_FILE = 3
"""Hits a file may have before other files' hits go first."""
_SIMILARITY = 0.9
"""Jaccard index from which two chunks count as the same."""
_SHINGLE_WORDS = 5
_MAX_COMPARED = 60
"""Kept chunks with which later ones are compared by their words, at most: the best of the ranking."""


def fold(ranking: Sequence[RankedChunk], max_per_file: int = MAX_PER_FILE) -> list[RankedChunk]:
    """Fold a ranking: similar chunks become one hit, which counts them, and no file floods the answer.

    A chunk is folded into an earlier one when it is the same text (anywhere), when it overlaps it in its file, when
    it is the next or previous chunk of the same unit, or when nearly all runs of five words are shared (Jaccard
    0.9): a reader of the first would gain nothing or only a neighbour, and can read on from its locator. A file's
    hits beyond ``max_per_file`` go after all others rather than away: one long document must not hide the rest of
    the folder, and a folder of one document must still fill the answer.

    Args:
        ranking: Best first.
        max_per_file: Hits a file may have before the other files' hits go first.
    """
    kept: list[RankedChunk] = []
    known = _KeptChunks()
    for hit in ranking:
        into = known.find_or_add(hit.chunk, len(kept))
        if into is None:
            kept.append(hit)
        else:
            kept[into] = replace(kept[into], folded=kept[into].folded + 1 + hit.folded)
    return _limit_per_file(kept, max_per_file)


def _limit_per_file(hits: Sequence[RankedChunk], max_per_file: int) -> list[RankedChunk]:
    counts: Counter[str] = Counter()
    first: list[RankedChunk] = []
    later: list[RankedChunk] = []
    for hit in hits:
        counts[hit.chunk.path] += 1
        (first if counts[hit.chunk.path] <= max_per_file else later).append(hit)
    return first + later


class _KeptChunks:
    """The chunks kept so far, found by equal text, by neighbourhood in their file, and by similarity.

    Similar chunks are found by prefix filtering: of two sets with a Jaccard index of at least t, put in one common
    order, the first ``n - ceil(t * n) + 1`` members of each share at least one (Chaudhuri, Ganti, Kaushik 2006;
    Bayardo, Ma, Srikant 2007). So nearly all pairs are never compared, and no similar pair is missed.
    """

    __slots__ = ("_by_file", "_by_shingle", "_by_text", "_compared")

    def __init__(self) -> None:
        self._by_text: dict[str, int] = {}
        self._by_file: dict[str, list[tuple[StoredChunk, Locator | None, int]]] = {}
        self._by_shingle: dict[int, list[tuple[int, frozenset[int]]]] = {}
        self._compared = 0

    def find_or_add(self, chunk: StoredChunk, index: int) -> int | None:
        """The index of the kept chunk that this one is folded into; None if there is none: it is kept as ``index``."""
        if chunk.text_hash in self._by_text:
            return self._by_text[chunk.text_hash]
        locator = parse_stored(chunk.locator)  # None, from another version, neither overlaps nor follows anything
        for other, other_locator, kept in self._by_file.get(chunk.path, ()):
            if _adjacent_or_overlapping(chunk, locator, other, other_locator):
                return kept
        shingles = _shingles(chunk.text)
        prefix = sorted(shingles)[: len(shingles) - math.ceil(_SIMILARITY * len(shingles)) + 1]
        candidates = {pair for shingle in prefix for pair in self._by_shingle.get(shingle, ())}
        similar = [kept for kept, theirs in candidates if _similar(shingles, theirs)]
        if similar:
            return min(similar)
        self._by_text[chunk.text_hash] = index
        self._by_file.setdefault(chunk.path, []).append((chunk, locator, index))
        if self._compared < _MAX_COMPARED:
            self._compared += 1
            for shingle in prefix:
                self._by_shingle.setdefault(shingle, []).append((index, shingles))
        return None


def _similar(one: frozenset[int], other: frozenset[int]) -> bool:
    shared = len(one & other)
    return shared >= _SIMILARITY * (len(one) + len(other) - shared)


def _adjacent_or_overlapping(
    chunk: StoredChunk, locator: Locator | None, other: StoredChunk, other_locator: Locator | None
) -> bool:
    """Whether two chunks of one file overlap or follow each other within one unit."""
    if locator is None or other_locator is None:
        return False
    if (locator.kind, locator.unit) != (other_locator.kind, other_locator.unit):
        return False
    if abs(chunk.ordinal - other.ordinal) <= 1:
        return True
    has_lines = bool(locator.start and other_locator.start)
    return has_lines and locator.start <= other_locator.end and other_locator.start <= locator.end


def _shingles(text: str) -> frozenset[int]:
    """Hashes of all runs of five words."""
    words = plain(text).split()
    if len(words) < 2 * _SHINGLE_WORDS:  # too short, or a script without spaces: compare characters
        letters = "".join(words)
        return frozenset(hash(letters[i : i + 12]) for i in range(max(1, len(letters) - 11)))
    return frozenset(map(hash, zip(*(words[i:] for i in range(_SHINGLE_WORDS)), strict=False)))
