from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import bert_config, bert_weights, tokenizer, write_bert, write_hub, write_modules, write_static

from indexer.errors import SlotUnavailable
from indexer.models import onnx
from indexer.models.bert_onnx import build_encoder, covers_encoder
from indexer.models.recipe import read_recipe
from indexer.models.spec import resolve


def reference(w: dict[str, Any], config: dict[str, Any], ids: list[int], first_position: int = 0) -> Any:
    """BERT by the book, one text without padding, in float64: [tokens, hidden]."""
    w = {n: t.astype(np.float64) for n, t in w.items()}

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    places = first_position + np.arange(len(ids))
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][places]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    heads, width = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        mixed = [dense(x, f"{at}attention.self.{n}") for n in ("query", "key", "value")]
        q, k, v = (m.reshape(-1, heads, width).swapaxes(0, 1) for m in mixed)
        scores = q @ k.swapaxes(1, 2) / math.sqrt(width)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (shares / shares.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(x + dense(seen, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        wide = dense(x, f"{at}intermediate.dense")
        gelu = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + dense(gelu, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x


def embed(directory: Path, texts: list[str]) -> Any:
    spec = resolve(str(directory), device="cpu")
    assert spec.runtime == "onnx"
    return onnx.load_embedder(spec, lambda _stage, _done: None, lambda: False).embed_passages(texts)


def expected(x: Any, pooling: str = "mean") -> Any:
    vector = {"mean": x.mean(0), "cls": x[0], "last": x[-1]}[pooling]
    return vector / np.linalg.norm(vector)


def token_ids(text: str) -> list[int]:
    made = tokenizer()
    made.no_truncation()
    made.no_padding()
    ids: list[int] = made.encode(text).ids
    return ids


TEXTS = ["the lease", "how long is the notice period of the contract ?", "valve", "x1 y2 z3 " * 5]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_graph_computes_bert_by_the_book(tmp_path: Path, pooling: str) -> None:
    config = bert_config()
    rows = embed(write_bert(tmp_path, pooling=pooling), TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        by_the_book = expected(reference(bert_weights(config), config, token_ids(text)[:32]), pooling)
        assert np.abs(row - by_the_book).max() < 1e-5, text


def test_roberta_counts_its_positions_from_two(tmp_path: Path) -> None:
    kind = {"model_type": "xlm-roberta", "pad_token_id": 1, "type_vocab_size": 1}
    config = bert_config(**kind)
    rows = embed(write_bert(tmp_path, prefix="roberta.", **kind), TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        by_the_book = expected(reference(bert_weights(config), config, token_ids(text)[:32], first_position=2))
        assert np.abs(row - by_the_book).max() < 1e-5, text


def test_half_precision_weights_are_widened_not_rounded_again(tmp_path: Path) -> None:
    rows = embed(write_bert(tmp_path, dtype=np.float16), TEXTS)
    config = bert_config()
    halves = {n: t.astype(np.float16) for n, t in bert_weights(config).items()}
    for row, text in zip(rows, TEXTS, strict=True):
        assert np.abs(row - expected(reference(halves, config, token_ids(text)[:32]))).max() < 1e-5, text


def test_a_static_table_is_averaged(tmp_path: Path) -> None:
    table = load_file(write_static(tmp_path) / "model.safetensors")["embeddings"]
    rows = embed(tmp_path, ["the lease valve", "pump"])
    for row, text in zip(rows, ["the lease valve", "pump"], strict=True):
        mean = table[token_ids(text)[1:-1]].mean(0)
        assert np.abs(row - mean / np.linalg.norm(mean)).max() < 1e-6


def test_weights_behind_a_link_of_the_hub_cache_are_read(tmp_path: Path) -> None:
    write_hub(tmp_path, "acme/tiny")
    spec = resolve("acme/tiny", hub_cache=tmp_path, device="cpu")
    linked = onnx.load_embedder(spec, lambda _stage, _done: None, lambda: False).embed_passages(TEXTS)
    assert np.array_equal(linked, embed(write_bert(tmp_path / "plain"), TEXTS))


def test_the_graph_holds_no_weights(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    graph, file = build_encoder(directory, read_recipe(directory))
    assert file == directory / "model.safetensors"
    word = bert_weights(bert_config())["embeddings.word_embeddings.weight"][5].tobytes()
    assert word in file.read_bytes()
    assert word not in graph


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu_new"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True},
        {"model_type": "distilbert"}, {"model_type": "roberta"}, {"num_hidden_layers": 3}, {"vocab_size": 7},
        {"quantization_config": {"bits": 4}}, {"auto_map": {"AutoModel": "mine.Model"}},
    ],
)  # fmt: skip
def test_a_configuration_that_means_other_arithmetic_is_not_covered(tmp_path: Path, change: dict[str, Any]) -> None:
    directory = write_bert(tmp_path)
    assert covers_encoder(directory, read_recipe(directory))
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    assert not covers_encoder(directory, read_recipe(directory))


def test_a_tensor_too_many_or_a_module_too_many_is_not_covered(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    write_modules(directory, [(p, f"sentence_transformers.models.{k}") for p, k in kinds])
    assert not covers_encoder(directory, read_recipe(directory))
    directory = write_bert(tmp_path)
    weights = bert_weights(bert_config())
    save_file({**weights, "encoder.adapter.weight": np.zeros(3, np.float32)}, directory / "model.safetensors")
    assert not covers_encoder(directory, read_recipe(directory))
    table = write_static(tmp_path / "static")
    weighted = {"embeddings": np.zeros((3, 4), np.float32), "weights": np.zeros(3, np.float32)}
    save_file(weighted, table / "model.safetensors")
    assert not covers_encoder(table, read_recipe(table))


@pytest.mark.parametrize("keep", [0.5, 0.0001, 0.0])
def test_a_file_that_ends_early_is_refused_before_it_is_mapped(tmp_path: Path, keep: float) -> None:
    file = write_bert(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    with pytest.raises(SlotUnavailable, match=r"model\.safetensors is damaged") as caught:
        resolve(str(tmp_path), device="cpu")
    assert caught.value.code == "corrupt_files"
