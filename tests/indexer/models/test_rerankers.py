"""Cross-encoders: what is one, what loads it, and that both runtimes say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import write_bert, write_cross_encoder

from indexer.errors import SlotUnavailable
from indexer.models import bert_onnx
from indexer.models.loader import RuntimeLoader
from indexer.models.spec import resolve_reranker
from indexer.slot.embedder import Reranker, as_embedder, as_reranker

QUERY = "how long is the notice period"
TEXTS = [
    "the lease",
    "the notice period is 3",
    "valve pressure bar pump motor " * 9,
    "",
    "tenant 42",
    "wine glass " * 20,
]


def loaded(directory: Path, **changes: object) -> Reranker:
    spec = replace(resolve_reranker(str(directory), device="cpu"), **changes)  # type: ignore[arg-type]
    return as_reranker(RuntimeLoader().load(spec, lambda _stage, _done: None, lambda: False))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_pair_gets_one_number_that_its_neighbours_do_not_change(tmp_path: Path, family: str) -> None:
    model = loaded(write_cross_encoder(tmp_path, family=family))
    together = model.score(QUERY, TEXTS)
    alone = [model.score(QUERY, [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 3) for score in together}) == len(TEXTS)
    assert model.score("wine", TEXTS) != pytest.approx(together, abs=1e-3)
    assert model.score(QUERY, []) == []


def test_the_second_text_is_told_from_the_first(tmp_path: Path) -> None:
    model = loaded(write_cross_encoder(tmp_path))
    there, back = model.score("the lease", ["wine glass"]), model.score("wine glass", ["the lease"])
    assert there != pytest.approx(back, abs=1e-3)


def test_a_query_longer_than_the_window_leaves_room_for_the_text(tmp_path: Path) -> None:
    model = loaded(write_cross_encoder(tmp_path))
    one, other = model.score("how long is the lease " * 30, ["wine " * 30, "valve " * 30])
    assert one != pytest.approx(other, abs=1e-3)


def test_a_closed_reranker_says_so(tmp_path: Path) -> None:
    model = loaded(write_cross_encoder(tmp_path))
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.score(QUERY, TEXTS)


def test_the_spec_says_what_it_is_and_names_its_weights(tmp_path: Path) -> None:
    one = resolve_reranker(str(write_cross_encoder(tmp_path / "a")), device="cpu")
    other = resolve_reranker(str(write_cross_encoder(tmp_path / "b", seed=5)), device="cpu")
    assert (one.kind, one.runtime, one.device, one.dim, one.max_tokens) == ("reranker", "onnx", "cpu", 0, 48)
    assert one.key != other.key
    with pytest.raises(TypeError, match="reranker"):
        as_embedder(RuntimeLoader().load(one, lambda _stage, _done: None, lambda: False))


def test_what_is_no_reranker_is_refused_by_name(tmp_path: Path) -> None:
    embedder = write_bert(tmp_path / "bert")
    classes = write_cross_encoder(tmp_path / "classes", labels=3)
    own_code = write_cross_encoder(tmp_path / "code")
    config = json.loads((own_code / "config.json").read_text(encoding="utf-8"))
    (own_code / "config.json").write_text(json.dumps(config | {"auto_map": {"x": "y"}}), encoding="utf-8")
    for directory in (embedder, classes, own_code):
        with pytest.raises(SlotUnavailable) as refused:
            resolve_reranker(str(directory), device="cpu")
        assert refused.value.code == "incompatible" and directory.name in str(refused.value)
    with pytest.raises(SlotUnavailable) as missing:
        resolve_reranker("ms-marco-MiniLM-L6-v2", hub_cache=tmp_path, device="cpu")
    assert missing.value.code == "offline_missing" and "models pull" in missing.value.hint


def test_a_graph_is_only_written_for_what_is_known_exactly(tmp_path: Path) -> None:
    assert bert_onnx.covers_pair(write_cross_encoder(tmp_path / "one"))
    other = write_cross_encoder(tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}), encoding="utf-8")
    assert not bert_onnx.covers_pair(other)
    assert not bert_onnx.covers_pair(write_cross_encoder(tmp_path / "three", labels=3))
    assert resolve_reranker(str(other), device="cpu").runtime == "torch"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_both_runtimes_say_the_same(tmp_path: Path, family: str) -> None:
    directory = write_cross_encoder(tmp_path, family=family)
    here, there = loaded(directory), loaded(directory, runtime="torch")
    assert here.score(QUERY, TEXTS) == pytest.approx(there.score(QUERY, TEXTS), abs=1e-3)
    there.close()
    with pytest.raises(RuntimeError, match="closed"):
        there.score(QUERY, TEXTS)
