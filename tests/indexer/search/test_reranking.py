"""Reranking: a second model in the one slot, in time or not at all, and indexing does not starve beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from engines import ask, engine_over, names, settings
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot
from tiny_models import write_cross_encoder

from indexer.errors import SlotUnavailable
from indexer.folders.model_availability import ModelResolver
from indexer.models.spec import RerankModel
from indexer.search.fusion import RankedChunk, parse_query
from indexer.search.reranking import SCORE_BATCH, rerank
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.status_report import smallest_fitting_model
from indexer.types import Query, Reranking, StoredChunk

EMBEDDER = model_spec("embedder")
SPEC = model_spec("judge", dim=0, kind="reranker")
JUDGE = RerankModel("judge", SPEC, None, None)
TEXTS = ["plain", "gold", "plain too", "gold gold gold", "gold gold", "behind gold gold gold gold"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


def places(texts: Sequence[str] = TEXTS) -> list[RankedChunk]:
    chunks = [StoredChunk(str(n), f"/f/{n}", "/f", 0, text, "", "lines 1-2", str(n)) for n, text in enumerate(texts)]
    return [RankedChunk(chunk, 1.0 - rank / 10, ("keyword",)) for rank, chunk in enumerate(chunks)]


async def judged(
    slot: ModelSlot | None, *, text: str = "where is the gold", seconds: float = 20.0, **how: Any
) -> tuple[list[str], Reranking]:
    model, top, offset = how.get("model", JUDGE), how.get("top", 5), how.get("offset", 0)
    query = Query(text, mode=how.get("mode", "hybrid"), offset=offset)
    until = anyio.current_time() + seconds
    ranking, said = await rerank(places(), query, parse_query(text), model, slot, top=top, deadline=until)
    scores = [place.score for place in ranking]
    assert all(1.0 >= one >= other >= 0.0 for one, other in pairwise(scores))
    return [place.chunk.text for place in ranking], said


async def test_the_best_places_are_read_in_pieces_and_ordered_anew() -> None:
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        order, said = await judged(slot)
        assert order == ["gold gold gold", "gold gold", "gold", "plain", "plain too", TEXTS[5]]
        assert (said.status, said.model, said.places, said.code) == ("served", "judge", 5, "")
        (judge,) = loader.alive
        assert [len(batch) for batch in judge.batches] == [SCORE_BATCH, 1]  # type: ignore[union-attr]
        assert slot.status().model is not None and slot.status().model.kind == "reranker"  # type: ignore[union-attr]
        assert slot.status().warm_until is not None


async def test_the_reranker_is_loaded_after_the_embedder_is_gone_and_goes_after_its_warm_window() -> None:
    loader = FakeLoader(stages=[("weights", 1.0)])
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(EMBEDDER, Priority.TOOL, wait=20) as lease:
            await lease.embed_query("where is the gold")
        await judged(slot)
        assert loader.loads == ["embedder", "judge"] and loader.most_alive == 1
        await slot.wait_for("idle")
        assert loader.alive == [] and slot.status().counters.unloads == 2


@pytest.mark.parametrize("stage", ["load", "pairs"])
async def test_what_is_not_ready_in_time_leaves_the_order_and_says_so(stage: str) -> None:
    loader = FakeLoader(stages=[("weights", 60.0 if stage == "load" else 0.0)])
    async with virtual_slot(loader) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(3.0)
        began = anyio.current_time()
        order, said = await judged(slot, seconds=5.0)
        assert anyio.current_time() - began <= 5.01
        assert order == TEXTS
        assert said.status == "unavailable" and said.places == 0
        assert said.code == ("loading" if stage == "load" else "timeout") and said.reason


async def test_a_reranker_that_cannot_be_had_costs_nothing_but_a_sentence() -> None:
    problem = SlotUnavailable("offline_missing", "The model judge is not on this machine.", "Pull it.")
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        order, said = await judged(slot, model=RerankModel("judge", None, problem, None))
        assert order == TEXTS and loader.loads == []
        assert (said.status, said.code, said.hint) == ("unavailable", "offline_missing", "Pull it.")
        loader.failures["judge"] = [RuntimeError("broken weights")]
        order, said = await judged(slot)
        assert order == TEXTS and said.status == "unavailable"
    assert (await judged(None))[1].code == "not_owner"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"mode": "keyword"}, "mode"),
        ({"text": "parse_json_file"}, "identifier"),
        ({"text": '"where is the gold"'}, "identifier"),
        ({"text": "Wo ist das Gold in der Stadt geblieben?"}, "language"),
        ({"offset": 5}, "nothing_to_order"),
    ],
)
async def test_queries_that_are_not_for_it_load_nothing(how: dict[str, Any], code: str) -> None:
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        order, said = await judged(slot, **{"model": RerankModel("judge", SPEC, None, frozenset({"en"})), **how})
        assert (order, said.status, said.code, loader.loads) == (TEXTS, "off", code, [])


@pytest.mark.slow
async def test_indexing_gets_its_turn_between_reranked_searches() -> None:
    loader, batches, searches = FakeLoader(stages=[("weights", 0.5)]), 0, 60
    async with virtual_slot(loader) as (slot, thread):
        loader.work = lambda kind, count: thread.sleep(1.0 if kind == "passages" else 0.1)

        async def index() -> None:
            nonlocal batches
            while True:
                async with slot.use(EMBEDDER, Priority.INDEX) as lease:
                    while True:
                        await lease.embed_passages(["one more"])
                        batches += 1
                        if lease.should_yield():
                            break

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(index)
            for _ in range(searches):  # ten minutes of searches, the window never over
                async with slot.use(EMBEDDER, Priority.TOOL, wait=20) as lease:
                    await lease.embed_query("gold")
                _, said = await judged(slot)
                assert said.status == "served" and said.elapsed_ms < 4000
                await anyio.sleep(10)
            tasks.cancel_scope.cancel()
    assert batches >= searches


class TestEngine:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_configured_reranker_orders_the_answer_and_is_seen_in_status(self, tmp_path: Path) -> None:
        folder, directory = tmp_path / "notes", write_cross_encoder(tmp_path / "judge")
        folder.mkdir()
        for name, text in {"a": "the ring the ring the ring", "b": "a ring of gold", "c": "the ring is lost"}.items():
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        config = settings(tmp_path / "data")
        config = replace(config, search=replace(config.search, rerank=str(directory)))
        loader = FakeLoader()
        async with engine_over(tmp_path / "data", folder, loader=loader, config=config) as engine:
            await engine.index()
            answer = await ask(engine, "which ring was it")
            assert names(answer.hits)[0] == "b.txt" and answer.hits[0].score == 1.0
            assert answer.reranking is not None and answer.reranking.status == "served"
            assert loader.loads[-1] == str(directory) and loader.most_alive == 1
            status = engine.status()
            assert status.slot.model is not None and status.slot.model.kind == "reranker"
            words = await ask(engine, "which ring was it", "keyword")
            assert words.reranking is not None and words.reranking.code == "mode"
            assert names(words.hits)[0] != "b.txt"
        found = ModelResolver(config).available([str(directory)])[0]
        assert found.local and found.runtime == "onnx"

    async def test_without_one_nothing_is_said_of_it(self, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "a.txt").write_text("the ring", encoding="utf-8")
        async with engine_over(tmp_path / "data", tmp_path / "notes") as engine:
            await engine.index()
            assert (await ask(engine, "which ring was it")).reranking is None


def test_a_reranker_is_no_model_for_a_folder_and_never_advised(tmp_path: Path) -> None:
    refused = ModelResolver(settings(tmp_path)).for_folder("ms-marco-MiniLM-L6-v2")
    assert refused.problem is not None and refused.problem.code == "incompatible"
    assert "reranker" in str(refused.problem) and "search.rerank" in refused.problem.hint
    better = smallest_fitting_model(frozenset({"en", "de", "ru"}))
    assert better is not None and better.kind == "embedder"
