"""A BERT encoder as an ONNX graph written straight over its safetensors file: no torch, no export, no copy.

The graph's weights are references into ``model.safetensors``, which ONNX Runtime maps; the graph itself is some
kilobytes and is written anew at each load. Covers what is exactly plain BERT (BERT, RoBERTa, XLM-RoBERTa) and tables
of static vectors; ``covers`` says no to anything else, down to a tensor it does not know.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import SlotUnavailable
from indexer.model.onnx_writer import BFLOAT16, FLOAT, FLOAT16, INT32, INT64, MICROSOFT, Graph
from indexer.model.recipe import Recipe

KINDS = {"F32": FLOAT, "F16": FLOAT16, "BF16": BFLOAT16}
_FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
"""Row of the position table that the first token takes: RoBERTa counts from ``pad_token_id + 1``."""
UNUSED = ("pooler.", "embeddings.position_ids", "lm_head.", "cls.", "classifier.")
"""Tensors that no sentence vector depends on."""
_PREFIXES = ("", "bert.", "roberta.")
_MODULES = frozenset({"Transformer", "Pooling", "Normalize", "StaticEmbedding"})
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in a safetensors file."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    length: int


def covers(directory: Path, recipe: Recipe) -> bool:
    """Whether the model in ``directory`` is one whose graph is known exactly; reads headers and configuration only.

    Raises:
        SlotUnavailable: ``corrupt_files``.
    """
    if not set(recipe.modules) <= _MODULES or not recipe.pools_prompt:
        return False
    file = directory / recipe.root / "model.safetensors"
    if not file.is_file() or recipe.pooling not in ("mean", "cls", "last", "static"):
        return False
    tensors = tensors_in(file)
    if recipe.pooling == "static":
        return _static_name(tensors) != ""
    config = _config(directory, recipe)
    expected = expected_tensors(config) if is_plain(config) else {}
    return bool(expected) and expected == {n: t.shape for n, t in tensors.items() if not n.startswith(UNUSED)}


def build(directory: Path, recipe: Recipe) -> tuple[bytes, Path]:
    """Write the graph of the model in ``directory`` (``covers`` must be true).

    Returns:
        The serialized model: inputs ``input_ids`` and ``attention_mask`` int64 [batch, tokens], output
        ``last_hidden_state`` float32 [batch, tokens, hidden]; and the weights' real file, whose directory ONNX
        Runtime has to be told (in the hub's cache the name in the snapshot is a link, which it refuses).
    """
    file = (directory / recipe.root / "model.safetensors").resolve()
    tensors = tensors_in(file)
    graph = Graph()
    ids = graph.input("input_ids", INT64, ("batch", "tokens"))
    mask = graph.input("attention_mask", INT64, ("batch", "tokens"))
    weights = {name: weight(graph, name, tensor, file.name) for name, tensor in tensors.items()
               if not name.startswith(UNUSED)}  # fmt: skip
    if recipe.pooling == "static":
        hidden = tensors[_static_name(tensors)].shape[1]
        graph.node("Gather", [weights[_static_name(tensors)], ids], "last_hidden_state")
    else:
        config = _config(directory, recipe)
        hidden = int(config["hidden_size"])
        encoder(graph, weights, config, ids, mask)
    graph.output("last_hidden_state", FLOAT, ("batch", "tokens", hidden))
    return graph.to_bytes(), file


def encoder(graph: Graph, w: dict[str, str], config: dict[str, Any], ids: str, mask: str, kinds: str = "") -> None:
    """Embeddings and layers, as ``transformers.BertModel`` computes them at inference.

    Args:
        graph: Gets the nodes; the last is ``last_hidden_state`` [batch, tokens, hidden].
        w: Weights by their names in the file, as the graph knows them.
        config: The model's ``config.json``.
        ids: Input int64 [batch, tokens].
        mask: Likewise; 0 for padding.
        kinds: Likewise, 0 for the first of two texts and 1 for the second; empty when there is one text only.
    """
    hidden, eps = int(config["hidden_size"]), float(config["layer_norm_eps"])
    flat = graph.constant("flat_shape", [-1, hidden])
    shape = graph.node("Shape", [ids], "ids_shape")
    cube = graph.node("Concat", [shape, graph.constant("width", [hidden])], "cube_shape", axis=0)
    padding = graph.node("Cast", [mask], "padding_mask", to=INT32)
    x = graph.node("Reshape", [_embeddings(graph, w, config, ids, shape, kinds), flat], "embedded_flat")
    for i in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{i}."

        def dense(x: str, name: str, at: str = at) -> str:
            return graph.node("Gemm", [x, w[f"{at}{name}.weight"], w[f"{at}{name}.bias"]], at + name, transB=1)

        def add_and_norm(x: str, skip: str, name: str, at: str = at) -> str:
            scale = [w[f"{at}{name}.weight"], w[f"{at}{name}.bias"]]
            return graph.node("SkipLayerNormalization", [x, skip, *scale], at + name, MICROSOFT, epsilon=eps)

        qkv = [graph.node("Reshape", [dense(x, f"attention.self.{part}"), cube], f"{at}{part}")
               for part in ("query", "key", "value")]  # fmt: skip
        heads = int(config["num_attention_heads"])
        seen = graph.node("MultiHeadAttention", [*qkv, "", padding], f"{at}heads", MICROSOFT, num_heads=heads)
        seen = dense(graph.node("Reshape", [seen, flat], f"{at}context"), "attention.output.dense")
        x = add_and_norm(seen, x, "attention.output.LayerNorm")
        wide = graph.node("Gelu", [dense(x, "intermediate.dense")], f"{at}gelu", MICROSOFT)
        x = add_and_norm(dense(wide, "output.dense"), x, "output.LayerNorm")
    graph.node("Reshape", [x, cube], "last_hidden_state")


def _embeddings(graph: Graph, w: dict[str, str], config: dict[str, Any], ids: str, shape: str, kinds: str) -> str:
    """Word + position + type of sequence, normalised: [batch, tokens, hidden]."""
    first = _FIRST_POSITION[config["model_type"]]
    zero, one, start = (graph.constant(n, [v]) for n, v in (("zero", 0), ("one", 1), ("start", first)))
    length = graph.node("Gather", [shape, one], "length", axis=0)
    end = graph.node("Add", [length, start], "end")
    table = "embeddings.{}_embeddings.weight"
    rows = graph.node("Slice", [w[table.format("position")], start, end, zero], "positions")
    kind = graph.node("Gather", [w[table.format("token_type")], kinds or zero], "kind")
    words = graph.node("Gather", [w[table.format("word")], ids], "words")
    summed = graph.node("Add", [words, graph.node("Add", [rows, kind], "places")], "embedded")
    scale = [w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"]]
    eps = float(config["layer_norm_eps"])
    return graph.node("LayerNormalization", [summed, *scale], "embedded_norm", axis=-1, epsilon=eps)


def weight(graph: Graph, name: str, tensor: Tensor, file: str) -> str:
    """Add a tensor of the weights' file to the graph, as float32; returns its name."""
    kind = KINDS[tensor.kind]
    stored = name if kind == FLOAT else f"{name}.stored"
    graph.external(stored, kind, tensor.shape, file, span=(tensor.offset, tensor.length))
    return name if kind == FLOAT else graph.node("Cast", [stored], name, to=FLOAT)


def is_plain(config: dict[str, Any]) -> bool:
    """Whether a configuration means exactly the arithmetic of ``encoder``."""
    return (
        config.get("model_type") in _FIRST_POSITION
        and config.get("hidden_act") == "gelu"
        and (config.get("position_embedding_type") or "absolute") == "absolute"
        and not config.get("is_decoder")
        and not config.get("add_cross_attention")
        and not config.get("quantization_config")
        and not config.get("auto_map")
        and (config["model_type"] == "bert" or config.get("pad_token_id") == 1)  # it decides the first position
        and all(k in config for k in _SIZES)
    )


_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "max_position_embeddings", "type_vocab_size", "layer_norm_eps")  # fmt: skip


def expected_tensors(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that the graph reads."""
    hidden, wide = int(config["hidden_size"]), int(config["intermediate_size"])
    rows = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{n}_embeddings.weight": (int(config[k]), hidden) for n, k in rows.items()
    }
    dense = {**{f"attention.{n}": (hidden, hidden) for n in ("self.query", "self.key", "self.value", "output.dense")},
             "intermediate.dense": (wide, hidden), "output.dense": (hidden, wide)}  # fmt: skip
    norms = ["embeddings.LayerNorm"]
    for i in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{i}."
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
        for name, shape in dense.items():
            shapes |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
    return shapes | {f"{n}.{part}": (hidden,) for n in norms for part in ("weight", "bias")}


def _static_name(tensors: dict[str, Tensor]) -> str:
    """Return the name of the table if it is all there is (weights and mappings beside it are not covered)."""
    only = next(iter(tensors), "")
    return only if len(tensors) == 1 and only in ("embeddings", "embedding.weight") else ""


def _config(directory: Path, recipe: Recipe) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / recipe.root / "config.json").read_text(encoding="utf-8"))
    return config


def tensors_in(file: Path) -> dict[str, Tensor]:
    """Read what a safetensors file holds; prefixes of the names are taken off.

    Empty when it holds a number format that the graph does not read.
    """
    start, header = _header(file)
    prefix = next((p for p in reversed(_PREFIXES) if f"{p}embeddings.word_embeddings.weight" in header), "")
    if any(t["dtype"] not in KINDS for n, t in header.items() if not n.removeprefix(prefix).startswith(UNUSED)):
        return {}
    return {
        name.removeprefix(prefix): Tensor(t["dtype"], tuple(t["shape"]), start + begin, end - begin)
        for name, t in header.items()
        for begin, end in [t["data_offsets"]]
    }


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Read the header of a safetensors file: 8 bytes of length, JSON, then the tensors' bytes.

    Raises:
        SlotUnavailable: ``corrupt_files``: not such a header, or the file ends before its tensors do (mapped, that
            would end the process).
    """
    with file.open("rb") as f:
        (size,) = struct.unpack("<Q", f.read(8).ljust(8, b"\0"))
        raw = f.read(min(size, _HEADER_LIMIT))
    try:
        header: dict[str, Any] = json.loads(raw)
        header.pop("__metadata__", None)
        end = max((t["data_offsets"][1] for t in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise _corrupt(file, "its header cannot be read") from e
    if 8 + size + end != file.stat().st_size:
        raise _corrupt(file, f"it should have {8 + size + end} bytes and has {file.stat().st_size}")
    return 8 + size, header


def _corrupt(file: Path, why: str) -> SlotUnavailable:
    remedy = "Delete this model's files and pull it again."
    return SlotUnavailable("corrupt_files", f"{file} is damaged: {why}.", remedy)
