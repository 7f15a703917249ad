"""Keyword and meaning made one ranking, and that ranking made one hit per place.

The base is reciprocal rank fusion (Cormack, Clarke, Buettcher 2009, k = 60): a list gives a chunk at rank r
``1 / (k + r)``. Ranks, not scores, because BM25 and the cosines of different models share no scale. Fused blindly
it harms when one list is noise, so each list votes only where it is competent:

1. *Language.* A model votes only on queries and chunks in languages it knows. Where it does not know the query's
   language, keywords alone rank, and what only the vectors found follows after. A query too short to show its
   language is taken to be in the language of what its words found.
2. *Missing vectors.* A chunk whose folder no model answered for is not charged for it: it gets the vote that the
   other keyword hits got from the models on average (its own once more when there are none).
3. *Kind of query.* A name, path, version or error code leans on keywords, which match it exactly. A question in
   words whose answers are source code leans on meaning, since code rarely repeats the words of the question. All
   else is weighed equally.
4. *Named place.* A query that is, word for word, the heading of a section or the name of a file asks for that place:
   what the keywords found there goes first.
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
from indexer.types import Locator, Scored, StoredChunk, stored

# What a query is ----------------------------------------------------------------------------------------------------
# What a query looks like: the few plain facts about it that decide how keyword and meaning are weighed.

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


# Fusion -------------------------------------------------------------------------------------------------------------

K = 60
"""Rank constant of reciprocal rank fusion, as published."""
_LEAN = 3.0
"""How much more the favoured list weighs when the kind of query says so."""
_SAMPLE = 600
"""Characters of a chunk that tell its language."""
_TAIL = 0.1
"""Weight of a list that does not vote: small enough to stay below every keyword hit up to rank 500."""
_CODE = frozenset(
    """.py .pyi .js .mjs .cjs .jsx .ts .tsx .go .rs .c .h .cc .cpp .cxx .hpp .hh .java .kt .scala .swift .rb .php .pl
    .pm .lua .sh .bash .zsh .ps1 .cs .fs .vb .m .mm .r .jl .ex .exs .erl .hs .ml .clj .lisp .el .vim .sql .dart .zig
    .nim .v .sv .vhd .asm .s .cu .proto .gradle .cmake""".split()  # noqa: SIM905  # sixty quoted literals hide it
)

_MARKS = dict.fromkeys(map(ord, '"“”„«»「」`*¶§'))

Leg = Literal["semantic", "keyword"]
_Vote: TypeAlias = tuple[StoredChunk, float, Leg]


@dataclass(frozen=True, slots=True)
class SemanticList:
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
class Fused:
    """A chunk in the common ranking.

    Attributes:
        score: Share of the best score of the answer, 0..1.
        matched: Which legs found it.
        folded: How many other places it stands for.
    """

    chunk: StoredChunk
    score: float
    matched: tuple[Leg, ...]
    folded: int = 0


def fuse(keyword: Sequence[Scored], semantic: Sequence[SemanticList], question: Question) -> list[Fused]:
    """Fuse the lists of one query into one ranking, best first.

    Ties (two lists that swap two chunks make one) go to the better keyword rank, then by path, then by position in
    the file, so that equal questions get equal answers.

    Args:
        keyword: BM25's list, best first, over everything searched.
        semantic: One list a model in use; empty when no model served.
        question: The query, read.
    """
    language = question.language or _language_found(keyword)
    lists = [(found, _reads(found, language)) for found in semantic]
    voting = [found for found, known in lists if known]
    word_weight, meaning_weight = _weights(question, keyword, voting)
    by_word = {hit.chunk.chunk_id: rank for rank, hit in enumerate(keyword)}
    votes: list[_Vote] = []
    for found, known in lists:
        readable = [hit.chunk for hit in found.hits if not known or _can_judge(found, hit.chunk)]
        for rank, chunk in enumerate(readable, 1):
            weight = meaning_weight if known else 0.0 if chunk.chunk_id in by_word else _TAIL
            votes.append((chunk, weight / (K + rank), "semantic"))
    given = {chunk.chunk_id: share for chunk, share, _ in votes}
    blind = [not any(_answered_for(found, hit.chunk) for found in voting) for hit in keyword]
    seen = [given.get(hit.chunk.chunk_id, 0.0) for hit, unseen in zip(keyword, blind, strict=True) if not unseen]
    for rank, (hit, unseen) in enumerate(zip(keyword, blind, strict=True), 1):
        missing = (sum(seen) / len(seen) if seen else meaning_weight / (K + rank)) if unseen else 0.0
        votes.append((hit.chunk, word_weight / (K + rank) + missing, "keyword"))
    most = (word_weight + meaning_weight) / (K + 1)
    votes += [(hit.chunk, most, "keyword") for hit in _named(question.text, keyword)]
    return _ranked(votes, by_word)


def _ranked(votes: Sequence[_Vote], by_word: dict[str, int]) -> list[Fused]:
    scores: dict[str, float] = {}
    legs: dict[str, set[Leg]] = {}
    chunks: dict[str, StoredChunk] = {}
    for chunk, share, leg in votes:
        key = chunk.chunk_id
        scores[key] = scores.get(key, 0.0) + share
        legs.setdefault(key, set()).add(leg)
        chunks[key] = chunk
    best = max(scores.values(), default=1.0)

    # Rounded, so that the order of floating-point sums cannot decide a tie.
    def place(key: str) -> tuple[float, int, str, int]:
        return -round(scores[key], 12), by_word.get(key, len(votes)), chunks[key].path, chunks[key].ordinal

    order = sorted(chunks, key=place)
    names: tuple[Leg, ...] = ("semantic", "keyword")
    return [Fused(chunks[key], scores[key] / best, tuple(leg for leg in names if leg in legs[key])) for key in order]


def _named(text: str, keyword: Sequence[Scored]) -> list[Scored]:
    """The hits whose own heading, or file name, is what was asked."""
    wanted = _name(text)
    return [
        hit
        for hit in keyword
        if wanted and wanted in (_name(hit.chunk.heading.rsplit(JOINT, 1)[-1]), _name(PurePath(hit.chunk.path).name))
    ]


def _name(text: str) -> str:
    """``text`` for comparing names: without the marks that a text or a query puts around one."""
    return plain(text.translate(_MARKS)).rstrip("?!.:;, ")


def _answered_for(found: SemanticList, chunk: StoredChunk) -> bool:
    return found.folders is None or chunk.folder in found.folders


def _can_judge(found: SemanticList, chunk: StoredChunk) -> bool:
    return found.model_languages is None or _reads(found, _language_of(chunk.text[:_SAMPLE]))


def _language_found(keyword: Sequence[Scored]) -> str:
    """Language of what a query's words found, for a query too short to show its own; empty when they disagree."""
    languages = Counter(_language_of(hit.chunk.text[:_SAMPLE]) for hit in keyword[:5])
    language, count = languages.most_common(1)[0] if languages else ("", 0)
    return language if 2 * count > languages.total() else ""


@lru_cache(maxsize=4096)
def _language_of(sample: str) -> str:
    return detect(sample)


def _reads(found: SemanticList, language: str) -> bool:
    """Whether the list's model reads ``language``; a language that does not show gets the benefit of the doubt."""
    return found.model_languages is None or not language or language in found.model_languages


def _weights(question: Question, keyword: Sequence[Scored], voting: Sequence[SemanticList]) -> tuple[float, float]:
    """Weights of the keyword list and of each semantic list; the docstring of this module gives the rule."""
    if not voting:
        return 1.0, 0.0
    if question.kind == "identifier":
        return _LEAN, 1.0
    if question.kind == "question" and _about_code([keyword, *(found.hits for found in voting)]):
        return 1.0, _LEAN
    return 1.0, 1.0


def _about_code(lists: Sequence[Sequence[Scored]]) -> bool:
    """Whether most of the first ten of all lists together are source files."""
    top = [hit.chunk.path for hits in lists for hit in hits[:10]]
    return 2 * sum(PurePath(path).suffix.lower() in _CODE for path in top) > len(top)


# Folding of similar results -----------------------------------------------------------------------------------------
# One hit per place: overlapping chunks, copies and floods from one file, folded away.

MAX_PER_FILE = 3
"""Hits a file may have before other files' hits go first."""
_ALIKE = 0.9
_SHINGLE = 5
_COMPARED = 60
_NEAR = 8
"""Chunks on either side in which a piece of a paragraph may have its words from."""


def fold(fused: Sequence[Fused], max_per_file: int = MAX_PER_FILE) -> list[Fused]:
    """Fold a ranking: each place once, best first; what was folded into a hit is counted there.

    A hit is folded into an earlier one when it is the same text (anywhere), when it overlaps it in its file, when
    it is the next or previous chunk of the same unit, or when nearly all runs of five words are shared (Jaccard
    0.9): a reader of the first would gain nothing or only a neighbour, and can read on from its locator. A file's
    hits beyond ``max_per_file`` go after all others rather than away: one long document must not hide the rest of
    the folder, and a folder of one document must still fill the answer.

    Args:
        fused: A ranking, best first.
        max_per_file: Hits a file may have before the other files' hits go first.
    """
    kept: list[Fused] = []
    places = _Places()
    for hit in fused:
        into = places.find_or_add(hit.chunk, len(kept))
        if into is None:
            kept.append(hit)
        else:
            kept[into] = replace(kept[into], folded=kept[into].folded + 1 + hit.folded)
    return _spread(kept, max_per_file)


def with_own_words(keyword: Sequence[Scored], question: Question) -> list[Scored]:
    """A keyword list without the chunks that only their paragraph's words brought: they show nothing of the query.

    A short chunk goes when a better hit stands near it in its file and its passage and path have none of the words.
    """
    wanted = frozenset(question.tokens)
    seen: dict[str, list[int]] = {}
    kept = []
    for hit in keyword:
        chunk = hit.chunk
        others = seen.setdefault(chunk.path, [])
        lease = len(chunk.text) < SHORT and any(abs(chunk.ordinal - other) <= _NEAR for other in others)
        others.append(chunk.ordinal)
        if not lease or _has_any(chunk, wanted, question.language):
            kept.append(hit)
    return kept


def _has_any(chunk: StoredChunk, wanted: frozenset[str], language: str) -> bool:
    """Whether a chunk itself has a word of the query, as its own language or the query's stems it."""
    text = f"{chunk.passage}\n{chunk.path.removeprefix(chunk.folder)}"
    return any(matches(text, wanted, known) for known in {detect(chunk.text), language})


def _spread(hits: Sequence[Fused], max_per_file: int) -> list[Fused]:
    seen: dict[str, int] = {}
    first: list[Fused] = []
    later: list[Fused] = []
    for hit in hits:
        seen[hit.chunk.path] = seen.get(hit.chunk.path, 0) + 1
        (first if seen[hit.chunk.path] <= max_per_file else later).append(hit)
    return first + later


class _Places:
    """The places already taken, found by text, by neighbourhood and by likeness.

    Likeness is looked for by prefix: of two sets with a Jaccard index of at least t, put in one common order, the
    first ``n - ceil(t * n) + 1`` members of each share at least one (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
    Srikant 2007). So nearly all pairs are never compared, and none that is alike is missed.
    """

    __slots__ = ("_by_file", "_by_shingle", "_by_text", "_compared")

    def __init__(self) -> None:
        self._by_text: dict[str, int] = {}
        self._by_file: dict[str, list[tuple[StoredChunk, Locator | None, int]]] = {}
        self._by_shingle: dict[int, list[tuple[int, frozenset[int]]]] = {}
        self._compared = 0

    def find_or_add(self, chunk: StoredChunk, index: int) -> int | None:
        """The place a chunk is folded into; None when it is its own, which is then kept as ``index``."""
        if chunk.text_hash in self._by_text:
            return self._by_text[chunk.text_hash]
        place = stored(chunk.locator)  # one of another version is its own place
        for other, locator, taken in self._by_file.get(chunk.path, ()):
            if _touch(chunk, place, other, locator):
                return taken
        own = _shingles(chunk.text)
        prefix = sorted(own)[: len(own) - math.ceil(_ALIKE * len(own)) + 1]
        near = {pair for shingle in prefix for pair in self._by_shingle.get(shingle, ())}
        alike = [taken for taken, theirs in near if _alike(own, theirs)]
        if alike:
            return min(alike)
        self._by_text[chunk.text_hash] = index
        self._by_file.setdefault(chunk.path, []).append((chunk, place, index))
        if self._compared < _COMPARED:
            self._compared += 1
            for shingle in prefix:
                self._by_shingle.setdefault(shingle, []).append((index, own))
        return None


def _alike(one: frozenset[int], other: frozenset[int]) -> bool:
    shared = len(one & other)
    return shared >= _ALIKE * (len(one) + len(other) - shared)


def _touch(chunk: StoredChunk, place: Locator | None, other: StoredChunk, locator: Locator | None) -> bool:
    """Whether two chunks of one file overlap or follow each other within one unit."""
    if place is None or locator is None or (place.kind, place.unit) != (locator.kind, locator.unit):
        return False
    if abs(chunk.ordinal - other.ordinal) <= 1:
        return True
    return bool(place.start and locator.start) and place.start <= locator.end and locator.start <= place.end


def _shingles(text: str) -> frozenset[int]:
    words = plain(text).split()
    if len(words) < 2 * _SHINGLE:  # too short, or a script without spaces: compare characters
        letters = "".join(words)
        return frozenset(hash(letters[i : i + 12]) for i in range(max(1, len(letters) - 11)))
    return frozenset(map(hash, zip(*(words[i:] for i in range(_SHINGLE)), strict=False)))
