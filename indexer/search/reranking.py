"""The best hits of a ranking ordered anew by a cross-encoder, which sees query and passage together.

The reranker takes the place of the embedding model in the one slot, by the slot's usual rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import anyio

from indexer.errors import SlotUnavailable
from indexer.models.spec import RerankModel
from indexer.search.fusion import ParsedQuery, RankedChunk
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.types import Query, Reranking

SCORE_BATCH = 4
"""Passages scored in one job. The deadline is checked between two jobs, so the slot is never held for longer."""
MAX_QUERY_CHARS = 1_000
"""Characters of a query that the reranker gets: the passage must fit beside it."""


async def rerank(
    ranking: Sequence[RankedChunk],
    query: Query,
    parsed: ParsedQuery,
    model: RerankModel,
    slot: ModelSlot | None,
    *,
    top: int,
    deadline: float,
) -> tuple[list[RankedChunk], Reranking]:
    """Order the first ``top`` hits of a ranking by the reranker's scores; all of them or none.

    Args:
        ranking: Best first.
        query: As it was asked.
        parsed: The same, parsed.
        model: The reranker.
        slot: Runs it; None in a process that holds no model.
        top: How many hits it scores.
        deadline: Loop time after which the order stays as it is.

    Returns:
        The ranking, and what became of the reranking. A hit's new score is its probability (the logistic function of
        the model's logit) as a share of the best hit's; those that were not scored follow in their order, with lower
        scores.
    """
    started = anyio.current_time()
    off = _why_off(query, parsed, model)
    if off is not None or len(ranking) < 2 or query.offset >= top:
        return list(ranking), off or Reranking("off", model.name, code="nothing_to_order")
    try:
        logits = await _logits(ranking[:top], parsed.text[:MAX_QUERY_CHARS], model, slot, deadline)
    except SlotUnavailable as refusal:
        why = (refusal.code, str(refusal), refusal.hint, refusal.retry_after)
        return list(ranking), Reranking("unavailable", model.name, 0, *why)
    elapsed = (anyio.current_time() - started) * 1000
    return _ordered(ranking, logits), Reranking("served", model.name, len(logits), elapsed_ms=elapsed)


def _why_off(query: Query, parsed: ParsedQuery, model: RerankModel) -> Reranking | None:
    """Why this query is not reranked, None when it is."""
    if query.mode == "keyword":
        return Reranking("off", model.name, code="mode", reason="Keyword mode uses no model.")
    if parsed.kind == "identifier":
        reason = "A name or phrase is looked for as it stands."
        return Reranking("off", model.name, code="identifier", reason=reason)
    if model.languages is not None and parsed.language and parsed.language not in model.languages:
        reason = f"{model.name} was not made for the language of the query ({parsed.language})."
        return Reranking("off", model.name, code="language", reason=reason)
    return None


async def _logits(
    hits: Sequence[RankedChunk], query: str, model: RerankModel, slot: ModelSlot | None, deadline: float
) -> list[float]:
    """The model's logits for the hits, in order.

    Raises:
        SlotUnavailable: The model cannot be had, or not in time.
    """
    if model.spec is None:
        raise model.problem or SlotUnavailable("model_not_found", f"The reranker {model.name} is not here.")
    if slot is None:
        raise SlotUnavailable("not_owner", "Another process holds the model.", "Search through the running server.")
    logits: list[float] = []
    async with slot.use(model.spec, Priority.TOOL, wait=max(0.0, deadline - anyio.current_time())) as lease:
        with anyio.move_on_after(deadline - anyio.current_time()):
            for at in range(0, len(hits), SCORE_BATCH):
                texts = [hit.chunk.passage for hit in hits[at : at + SCORE_BATCH]]
                logits += await lease.score(query, texts)
    if len(logits) < len(hits):
        raise SlotUnavailable(
            "timeout",
            f"{model.name} had read {len(logits)} of {len(hits)} places when the time was over.",
            "Set search.rerank_top lower, or search.wait higher.",
        )
    return logits


def _ordered(ranking: Sequence[RankedChunk], logits: Sequence[float]) -> list[RankedChunk]:
    order = sorted(range(len(logits)), key=lambda rank: (-logits[rank], rank))
    best = _probability(logits[order[0]])
    scored = [replace(ranking[rank], score=_probability(logits[rank]) / best) for rank in order]
    rest = ranking[len(logits) :]
    highest = max((hit.score for hit in rest), default=1.0)
    return scored + [replace(hit, score=scored[-1].score * hit.score / highest) for hit in rest]


def _probability(logit: float) -> float:
    """The logistic function; never 0, so that it can be divided by."""
    return 1.0 / (1.0 + math.exp(min(500.0, -logit)))
