"""A model run by ONNX Runtime: the CPU's own runtime; torch and transformers are neither needed nor imported."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import indexer.model.stop as stopping
from indexer.errors import SlotUnavailable
from indexer.model import bert_graph, recipe
from indexer.model.catalogue import lookup
from indexer.model.cut import cut
from indexer.model.embedder import ModelSpec, Progress
from indexer.model.local import onnx_file
from indexer.model.passes import Passes
from indexer.model.recipe import Recipe, layer_weights
from indexer.model.rows import unit_rows
from indexer.model.tokenizer import read_tokenizer, tokenizer_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from indexer.types import Matrix, Vector

_BATCH_DEPENDENT = b"DynamicQuantizeLinear"
"""The operation of 8-bit graphs that scales all texts of a pass by their common extremes."""
_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxEmbedder:
    """An ONNX graph with its tokenizer; all methods run on the model thread."""

    def __init__(
        self,
        spec: ModelSpec,
        session: InferenceSession,
        tokenizer: Tokenizer,
        how: Recipe,
        passes: Passes,
    ) -> None:
        self._spec = spec
        self._session: InferenceSession | None = session
        self._tokenizer: Tokenizer | None = tokenizer
        self._recipe = how
        self._passes = passes
        self._inputs = frozenset(i.name for i in session.get_inputs())
        outputs = [o.name for o in session.get_outputs()]
        self._whole = "sentence_embedding" in outputs
        self._output = "sentence_embedding" if self._whole else outputs[0]
        if not self._whole and "last_hidden_state" in outputs:
            self._output = "last_hidden_state"
        if not spec.dim:
            self._spec = replace(spec, dim=int(session.get_outputs()[outputs.index(self._output)].shape[-1]))

    @property
    def spec(self) -> ModelSpec:
        """What was loaded."""
        return self._spec

    def embed_query(self, text: str) -> Vector:
        """Embed one query with the query prompt: float32 [dim], unit length."""
        vector: Vector = self._encode([text], self._spec.query_prompt)[0]
        return vector

    def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """Embed one micro-batch with the passage prompt: float32 [n, dim], rows of unit length."""
        return self._encode(texts, self._spec.passage_prompt)

    def close(self) -> None:
        """Drop the session: its weights and buffers are freed with its last reference."""
        self._session = None
        self._tokenizer = None

    def _encode(self, texts: Sequence[str], prompt: str) -> Matrix:
        import numpy as np  # noqa: PLC0415

        if self._tokenizer is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        prepared = [prompt + cut(text, self._spec.max_tokens) for text in texts]
        if self._recipe.lower_case:
            prepared = [text.lower() for text in prepared]
        encodings = self._tokenizer.encode_batch_fast(prepared, add_special_tokens=self._recipe.special_tokens)
        rows = [np.asarray(e.ids, dtype=np.int64) for e in encodings]
        out = np.zeros((len(rows), self._spec.dim), np.float32)

        def forward(batch: list[int]) -> None:
            out[batch] = self._forward([rows[i] for i in batch])

        self._passes.run(forward, [len(row) for row in rows])
        return unit_rows(out, self._spec.dim)

    def _forward(self, rows: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run texts of like length: [n, dim], before scaling."""
        import numpy as np  # noqa: PLC0415

        if self._session is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        shape = (len(rows), max(1, *(len(row) for row in rows)) if len(rows) > 1 else max(1, len(rows[0])))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros(shape, np.int64)
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.tile(np.arange(shape[1], dtype=np.int64), (shape[0], 1))
        (found,) = self._session.run([self._output], {k: v for k, v in feeds.items() if k in self._inputs})
        return found if self._whole else _pool(found, mask, self._recipe.pooling)


def prepare() -> None:
    """Import the runtime: 0.2 CPU seconds."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # house: the library has no other switch
    import onnxruntime  # noqa: F401, PLC0415
    import tokenizers  # noqa: F401, PLC0415


def load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> OnnxEmbedder:
    """Load a model from its local directory: its own ONNX form, or a graph written over its safetensors file.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``incompatible``.
        indexer.model.failure.Stopped: ``stopped`` was true between two stages.
    """
    progress("tokenizer", 0.0)
    directory = Path(spec.directory)
    how = recipe.read(directory, lookup(spec.name))
    tokenizer = read_tokenizer(tokenizer_file(spec.directory))
    tokenizer.enable_truncation(max_length=spec.max_tokens)
    stopping.check(stopped)
    progress("weights", 0.0)
    model, weights = _graph(spec, directory, how)
    session, passes = open_graph(model, weights, directory / how.root)
    progress("weights", 1.0)
    stopping.check(stopped)
    return OnnxEmbedder(spec, session, tokenizer, how, passes)


def _graph(spec: ModelSpec, directory: Path, how: Recipe) -> tuple[bytes | Path, Path | None]:
    """Return the graph, written here or a file, and the directory of its weights where that must be told."""
    if bert_graph.covers(directory, how):
        graph, weights = bert_graph.build(directory, how)
        return graph, weights.parent
    return shipped_graph(spec, directory), None


def shipped_graph(spec: ModelSpec, directory: Path) -> Path:
    """Return the ONNX file that a model's repository holds.

    Raises:
        SlotUnavailable: ``offline_missing``: it holds none.
    """
    file = onnx_file(directory, lookup(spec.name))
    if not file:
        raise SlotUnavailable(
            "offline_missing", f"{directory} holds no ONNX form of {spec.name}.", "Pull the model again."
        )
    return directory / file


def open_graph(model: bytes | Path, weights: Path | None, transformer: Path) -> tuple[InferenceSession, Passes]:
    """Open a graph on the CPU, for passes of the size and number that suit it.

    Args:
        model: Its bytes, or its file.
        weights: The directory its bytes refer to.
        transformer: The directory of its ``config.json``.

    Raises:
        SlotUnavailable: ``corrupt_files``.
    """
    passes = Passes.of(layer_weights(transformer), _depends_on_batch(model))
    return _open_session(model, weights, passes.threads), passes


def _open_session(model: bytes | Path, weights: Path | None, threads: int) -> InferenceSession:
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Without arena and pattern, buffers are plain heap: freed after each pass, given back after the unload
    # (31 MiB of anonymous memory are left in a process that had loaded the embedded model).
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Idle threads sleep instead of spinning for the next job: a third less CPU time a chunk (measured).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights is not None:
        options.add_session_config_entry(_FOLDER, str(weights))
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _depends_on_batch(model: bytes | Path) -> bool:
    """Whether a text's vector would depend on the texts beside it, so that each must have a pass of its own."""
    if isinstance(model, bytes):
        return False
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_BATCH_DEPENDENT) >= 0


def _pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    """Make one vector of each text's token vectors: [n, tokens, hidden] to [n, hidden]; padding stands last."""
    import numpy as np  # noqa: PLC0415

    if pooling == "cls":
        first: NDArray[np.float32] = hidden[:, 0]
        return first
    counts = mask.sum(axis=1)
    if pooling == "last":
        last: NDArray[np.float32] = hidden[np.arange(len(hidden)), np.maximum(counts, 1) - 1]
        return last
    weights = mask.astype(np.float32)
    summed: Any = np.matmul(weights[:, None, :], hidden)[:, 0]
    mean: NDArray[np.float32] = summed / np.maximum(counts, 1).astype(np.float32)[:, None]
    return mean
