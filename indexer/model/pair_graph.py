"""A cross-encoder as an ONNX graph over its safetensors file: the encoder of ``bert_graph`` and one number a pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from indexer.model.bert_graph import KINDS, encoder, expected_tensors, is_plain, tensors_in, weight
from indexer.model.onnx_writer import FLOAT, INT64, Graph

_HEADS = {
    "bert": ("pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
}
"""The two layers, with tanh between them, that make the number of the first token's vector."""


def covers(directory: Path) -> bool:
    """Whether the cross-encoder in ``directory`` is one whose graph is known exactly; reads headers only.

    Raises:
        SlotUnavailable: ``corrupt_files``.
    """
    file = directory / "model.safetensors"
    if not file.is_file():
        return False
    config, tensors = _config(directory), tensors_in(file)
    if not is_plain(config) or not tensors:
        return False
    hidden = int(config["hidden_size"])
    dense, out = _HEADS[config["model_type"]]
    head = {
        f"{dense}.weight": (hidden, hidden),
        f"{dense}.bias": (hidden,),
        f"{out}.weight": (1, hidden),
        f"{out}.bias": (1,),
    }
    expected = expected_tensors(config) | head
    found = {name: tensor.shape for name, tensor in tensors.items() if name != "embeddings.position_ids"}
    return expected == found and all(tensors[name].kind in KINDS for name in head)


def build(directory: Path) -> tuple[bytes, Path]:
    """Write the graph of the cross-encoder in ``directory`` (``covers`` must be true).

    Returns:
        The serialized model: inputs ``input_ids``, ``attention_mask`` and ``token_type_ids`` int64 [batch, tokens],
        output ``logits`` float32 [batch, 1]; and the weights' real file (see ``bert_graph.build``).
    """
    file = (directory / "model.safetensors").resolve()
    config = _config(directory)
    graph = Graph()
    ids, mask, kinds = (
        graph.input(name, INT64, ("batch", "tokens")) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    w = {name: weight(graph, name, tensor, file.name) for name, tensor in tensors_in(file).items()
         if name != "embeddings.position_ids"}  # fmt: skip
    encoder(graph, w, config, ids, mask, kinds)
    dense, out = _HEADS[config["model_type"]]
    first = graph.node("Gather", ["last_hidden_state", graph.constant("first_token", [0])], "first", axis=1)
    flat = graph.node("Reshape", [first, graph.constant("pair_shape", [-1, int(config["hidden_size"])])], "pairs")
    seen = graph.node("Tanh", [_dense(graph, w, flat, dense)], "seen")
    graph.node("Identity", [_dense(graph, w, seen, out)], "logits")
    graph.output("logits", FLOAT, ("batch", 1))
    return graph.to_bytes(), file


def _dense(graph: Graph, w: dict[str, str], x: str, name: str) -> str:
    return graph.node("Gemm", [x, w[f"{name}.weight"], w[f"{name}.bias"]], f"{name}.out", transB=1)


def _config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config
