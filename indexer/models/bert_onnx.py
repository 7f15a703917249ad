"""A BERT encoder as an ONNX graph written straight over its safetensors file: no torch, no export, no copy.

The graph's weights are references into ``model.safetensors``, which ONNX Runtime maps; the graph itself is some
kilobytes and is written at each load. Supported are models that are exactly plain BERT (BERT, RoBERTa, XLM-RoBERTa)
and tables of static vectors; ``covers_encoder`` and ``covers_pair`` reject anything else, down to one unknown tensor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexer.errors import SlotUnavailable
from indexer.models.recipe import Recipe

# Graphs -------------------------------------------------------------------------------------------------------------
# The few messages of ``onnx.proto`` that a graph over external weights needs.
#
# The ``onnx`` package would cost 0.3 CPU seconds and 17 MiB in every process that opens a model (measured), to
# write some kilobytes. Field numbers are those of ``onnx.proto`` (ONNX IR version 8).

FLOAT, INT32, INT64, FLOAT16, BFLOAT16 = 1, 6, 7, 10, 16
MICROSOFT = "com.microsoft"
_IR_VERSION = 8
_OPSET = 17
_LENGTH_DELIMITED, _FIXED32 = 2, 5


@dataclass(slots=True)
class Graph:
    """Writes an ONNX graph; every method returns the name of what it adds."""

    _nodes: list[bytes] = field(default_factory=list)
    _initializers: list[bytes] = field(default_factory=list)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare an input of ``shape``; a name is a free axis."""
        self._inputs.append(_field(11, _value_info(name, kind, shape)))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare a value to be an output."""
        self._outputs.append(_field(12, _value_info(name, kind, shape)))
        return name

    def constant(self, name: str, values: Sequence[int]) -> str:
        """Add a vector of int64."""
        raw = struct.pack(f"<{len(values)}q", *values)
        tensor = _ints(1, [len(values)]) + _int(2, INT64) + _text(8, name) + _field(9, raw)
        self._initializers.append(_field(5, tensor))
        return name

    def external(self, name: str, kind: int, shape: Sequence[int], file: str, *, span: tuple[int, int]) -> str:
        """Add a tensor whose bytes are in ``file``; ``span`` is their offset and length in bytes."""
        offset, length = span
        entries = {"location": file, "offset": str(offset), "length": str(length)}
        where = b"".join(_field(13, _text(1, k) + _text(2, v)) for k, v in entries.items())
        tensor = _ints(1, shape) + _int(2, kind) + _text(8, name) + where + _int(14, 1)
        self._initializers.append(_field(5, tensor))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: float | Sequence[int]
    ) -> str:
        """Add an operation with one output; ``float``, ``int`` and integer lists are its attributes."""
        body = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output) + _text(4, kind)
        body += b"".join(_field(5, _attribute(k, v)) for k, v in attributes.items())
        self._nodes.append(_field(1, body + (_text(7, domain) if domain else b"")))
        return output

    def to_bytes(self) -> bytes:
        """Return the serialized ``ModelProto``."""
        graph = b"".join([*self._nodes, _text(2, "model"), *self._initializers, *self._inputs, *self._outputs])
        opsets = b"".join(_field(8, _text(1, d) + _int(2, v)) for d, v in (("", _OPSET), (MICROSOFT, 1)))
        return _int(1, _IR_VERSION) + _field(7, graph) + opsets


def _value_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _int(1, d) if isinstance(d, int) else _text(2, d)) for d in shape)
    return _text(1, name) + _field(2, _field(1, _int(1, kind) + _field(2, dims)))


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | _FIXED32) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _int(3, value) + _int(20, 2)
    return _text(1, name) + _ints(8, value) + _int(20, 7)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _ints(number: int, values: Iterable[int]) -> bytes:
    return b"".join(_int(number, value) for value in values)


def _varint(value: int) -> bytes:
    """Encode an integer seven bits a byte, low bits first; negative ones as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Embedding models ---------------------------------------------------------------------------------------------------

KINDS = {"F32": FLOAT, "F16": FLOAT16, "BF16": BFLOAT16}
_FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
"""Row of the position table for the first token: RoBERTa counts from ``pad_token_id + 1``."""
UNUSED = ("pooler.", "embeddings.position_ids", "lm_head.", "cls.", "classifier.")
"""Tensors that no sentence vector depends on."""
_PREFIXES = ("", "bert.", "roberta.")
_MODULES = frozenset({"Transformer", "Pooling", "Normalize", "StaticEmbedding"})
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a safetensors file, by its position there in bytes."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    length: int


def covers_encoder(directory: Path, recipe: Recipe) -> bool:
    """Whether the graph of the model in ``directory`` is known exactly; reads headers and configuration only.

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
    config = _encoder_config(directory, recipe)
    expected = expected_tensors(config) if is_plain(config) else {}
    return bool(expected) and expected == {n: t.shape for n, t in tensors.items() if not n.startswith(UNUSED)}


def build_encoder(directory: Path, recipe: Recipe) -> tuple[bytes, Path]:
    """Write the graph of the model in ``directory`` (``covers_encoder`` must be true).

    Returns:
        The serialized model: inputs ``input_ids`` and ``attention_mask`` int64 [batch, tokens], output
        ``last_hidden_state`` float32 [batch, tokens, hidden]; and the weights' real file, whose directory ONNX
        Runtime needs (in the hub's cache the name in the snapshot is a link, which it refuses).
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
        config = _encoder_config(directory, recipe)
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
    """Return the name of the table if it is the only tensor (further weights and mappings are not covered)."""
    only = next(iter(tensors), "")
    return only if len(tensors) == 1 and only in ("embeddings", "embedding.weight") else ""


def _encoder_config(directory: Path, recipe: Recipe) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / recipe.root / "config.json").read_text(encoding="utf-8"))
    return config


def tensors_in(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, without the prefix of their names.

    Empty when one has a number format that the graph does not read.
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
        SlotUnavailable: ``corrupt_files``: the header is invalid, or the file ends before its tensors do (reading
            it through a memory map would then kill the process).
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


# Cross-encoders -----------------------------------------------------------------------------------------------------
# The same encoder, and a head that makes one number for each pair of texts.

_HEADS = {
    "bert": ("pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
}
"""The two layers, with tanh between them, that make the number from the first token's vector."""


def covers_pair(directory: Path) -> bool:
    """Whether the graph of the cross-encoder in ``directory`` is known exactly; reads headers only.

    Raises:
        SlotUnavailable: ``corrupt_files``.
    """
    file = directory / "model.safetensors"
    if not file.is_file():
        return False
    config, tensors = _pair_config(directory), tensors_in(file)
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


def build_pair(directory: Path) -> tuple[bytes, Path]:
    """Write the graph of the cross-encoder in ``directory`` (``covers_pair`` must be true).

    Returns:
        The serialized model: inputs ``input_ids``, ``attention_mask`` and ``token_type_ids`` int64 [batch, tokens],
        output ``logits`` float32 [batch, 1]; and the weights' real file (see ``build_encoder``).
    """
    file = (directory / "model.safetensors").resolve()
    config = _pair_config(directory)
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


def _pair_config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config
