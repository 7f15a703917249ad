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

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Literal, TypeAlias

from indexer.text.language import detect
from indexer.text.question import Question
from indexer.text.structure import JOINT
from indexer.text.tokens import plain
from indexer.types import Scored, StoredChunk

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
