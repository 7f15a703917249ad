"""The best places of a ranking read again by a cross-encoder, which sees query and passage together.

A second use of the one slot: the embedding model goes, the reranker comes, both under the slot's usual rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import anyio

from indexer.errors import SlotUnavailable
from indexer.models.spec import RerankModel
from indexer.search.fusion import Fused, Question
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.types import Query, Reranking

PIECE = 4
"""Passages read in one job: between two jobs the time is looked at, and the slot is never held for longer."""
QUERY_CHARS_READ = 1_000
"""Characters of a query that the reranker reads: the passage must have room beside it."""


async def rerank(
    ranking: Sequence[Fused],
    query: Query,
    question: Question,
    model: RerankModel,
    slot: ModelSlot | None,
    *,
    top: int,
    until: float,
) -> tuple[list[Fused], Reranking]:
    """Order the first ``top`` places of a ranking by what the reranker says of them; all or nothing.

    Args:
        ranking: Best first.
        query: As it was asked.
        question: The same, read.
        model: The reranker.
        slot: Lends it; None in a process that holds no model.
        top: How many places it reads.
        until: Loop time at which the order stays as it is.

    Returns:
        The ranking, and what became of the reranking. A place's new score is its chance to be right (the logistic
        function of the model's number) as a share of the best place's; those that were not read stay behind in
        their order, with scores below.
    """
    began = anyio.current_time()
    off = _not_asked(query, question, model)
    if off is not None or len(ranking) < 2 or query.offset >= top:
        return list(ranking), off or Reranking("off", model.name, code="nothing_to_order")
    try:
        logits = await _scores(ranking[:top], question.text[:QUERY_CHARS_READ], model, slot, until)
    except SlotUnavailable as refusal:
        why = (refusal.code, str(refusal), refusal.hint, refusal.retry_after)
        return list(ranking), Reranking("unavailable", model.name, 0, *why)
    elapsed = (anyio.current_time() - began) * 1000
    return _ordered(ranking, logits), Reranking("served", model.name, len(logits), elapsed_ms=elapsed)


def _not_asked(query: Query, question: Question, model: RerankModel) -> Reranking | None:
    """Why a query is not for the reranker, or None."""
    if query.mode == "keyword":
        return Reranking("off", model.name, code="mode", reason="Keyword mode uses no model.")
    if question.kind == "identifier":
        reason = "A name or phrase is looked for as it stands."
        return Reranking("off", model.name, code="identifier", reason=reason)
    if model.languages is not None and question.language and question.language not in model.languages:
        reason = f"{model.name} was not made for the language of the query ({question.language})."
        return Reranking("off", model.name, code="language", reason=reason)
    return None


async def _scores(
    places: Sequence[Fused], query: str, model: RerankModel, slot: ModelSlot | None, until: float
) -> list[float]:
    """The model's numbers for the places, in order.

    Raises:
        SlotUnavailable: Not to be had, or not in time.
    """
    if model.spec is None:
        raise model.problem or SlotUnavailable("model_not_found", f"The reranker {model.name} is not here.")
    if slot is None:
        raise SlotUnavailable("not_owner", "Another process holds the model.", "Search through the running server.")
    scores: list[float] = []
    async with slot.use(model.spec, Priority.TOOL, wait=max(0.0, until - anyio.current_time())) as lease:
        with anyio.move_on_after(until - anyio.current_time()):
            for at in range(0, len(places), PIECE):
                texts = [place.chunk.passage for place in places[at : at + PIECE]]
                scores += await lease.score(query, texts)
    if len(scores) < len(places):
        raise SlotUnavailable(
            "timeout",
            f"{model.name} had read {len(scores)} of {len(places)} places when the time was over.",
            "Set search.rerank_top lower, or search.wait higher.",
        )
    return scores


def _ordered(ranking: Sequence[Fused], logits: Sequence[float]) -> list[Fused]:
    order = sorted(range(len(logits)), key=lambda place: (-logits[place], place))
    best = _chance(logits[order[0]])
    read = [replace(ranking[place], score=_chance(logits[place]) / best) for place in order]
    rest = ranking[len(logits) :]
    highest = max((place.score for place in rest), default=1.0)
    return read + [replace(place, score=read[-1].score * place.score / highest) for place in rest]


def _chance(logit: float) -> float:
    """The logistic function; never 0, so that shares of it stay defined."""
    return 1.0 / (1.0 + math.exp(min(500.0, -logit)))
