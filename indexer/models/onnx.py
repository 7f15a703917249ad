"""Models run by ONNX Runtime, the default on the CPU; torch and transformers are neither needed nor imported.

``loader`` imports this module on the model thread, in the ``runtime`` stage of a load.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Encoding, Tokenizer

from indexer.errors import SlotUnavailable
from indexer.models import bert_onnx
from indexer.models.catalogue import lookup
from indexer.models.locate import onnx_file
from indexer.models.recipe import Recipe, layer_weights, read_recipe, unit_rows
from indexer.models.tokenizer import break_long_runs, read_tokenizer, tokenizer_file
from indexer.slot.embedder import ModelSpec, Progress
from indexer.slot.failure import raise_if_stopped
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
        recipe: Recipe,
        passes: Passes,
    ) -> None:
        self._spec = spec
        self._session: InferenceSession | None = session
        self._tokenizer: Tokenizer | None = tokenizer
        self._recipe = recipe
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
        if self._tokenizer is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        prepared = [prompt + break_long_runs(text, self._spec.max_tokens) for text in texts]
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
        """Run texts of similar length: [n, dim], before scaling."""
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


def load_embedder(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> OnnxEmbedder:
    """Load a model from its local directory: its own ONNX form, or a graph written over its safetensors file.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``incompatible``.
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    progress("tokenizer", 0.0)
    directory = Path(spec.directory)
    recipe = read_recipe(directory, lookup(spec.name))
    tokenizer = read_tokenizer(tokenizer_file(spec.directory))
    tokenizer.enable_truncation(max_length=spec.max_tokens)
    raise_if_stopped(stopped)
    progress("weights", 0.0)
    model, weights = _graph(spec, directory, recipe)
    session, passes = open_graph(model, weights, directory / recipe.root)
    progress("weights", 1.0)
    raise_if_stopped(stopped)
    return OnnxEmbedder(spec, session, tokenizer, recipe, passes)


def _graph(spec: ModelSpec, directory: Path, recipe: Recipe) -> tuple[bytes | Path, Path | None]:
    """Return the graph, written here or a file, and the directory of its weights if the session must be given it."""
    if bert_onnx.covers_encoder(directory, recipe):
        graph, weights = bert_onnx.build_encoder(directory, recipe)
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
    options = SessionOptions()
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
    return InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _depends_on_batch(model: bytes | Path) -> bool:
    """Whether a text's vector would depend on the other texts of its pass, so that each needs a pass of its own."""
    if isinstance(model, bytes):
        return False
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_BATCH_DEPENDENT) >= 0


def _pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    """Make one vector of each text's token vectors: [n, tokens, hidden] to [n, hidden]; padding stands last."""
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


# Rerankers ----------------------------------------------------------------------------------------------------------
# A cross-encoder takes query and text together and returns one number.


class OnnxReranker:
    """A cross-encoder's graph with its tokenizer; all methods run on the model thread."""

    def __init__(self, spec: ModelSpec, session: InferenceSession, tokenizer: Tokenizer, passes: Passes) -> None:
        self._spec = spec
        self._session: InferenceSession | None = session
        self._tokenizer: Tokenizer | None = tokenizer
        self._passes = passes
        self._inputs = frozenset(i.name for i in session.get_inputs())

    @property
    def spec(self) -> ModelSpec:
        """What was loaded."""
        return self._spec

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query: logits, in the order of the texts."""
        if self._tokenizer is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        asked = break_long_runs(query, self._spec.max_tokens)
        pairs = [(asked, break_long_runs(text, self._spec.max_tokens)) for text in texts]
        encodings = self._tokenizer.encode_batch(pairs)
        scores = [0.0] * len(pairs)

        def forward(batch: list[int]) -> None:
            for i, value in zip(batch, self._forward([encodings[i] for i in batch]), strict=True):
                scores[i] = value

        self._passes.run(forward, [len(e.ids) for e in encodings])
        return scores

    def close(self) -> None:
        """Drop the session: its weights and buffers are freed with its last reference."""
        self._session = None
        self._tokenizer = None

    def _forward(self, encodings: list[Encoding]) -> list[float]:
        if self._session is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        shape = (len(encodings), max(len(e.ids) for e in encodings))
        feeds = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            feeds["input_ids"][row, :length] = encoding.ids
            feeds["attention_mask"][row, :length] = 1
            feeds["token_type_ids"][row, :length] = encoding.type_ids
        (logits,) = self._session.run(None, {k: v for k, v in feeds.items() if k in self._inputs})
        return [float(value) for value in logits.reshape(len(encodings), -1)[:, 0]]


def load_reranker(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> OnnxReranker:
    """Load a cross-encoder from its local directory.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``offline_missing``.
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    progress("tokenizer", 0.0)
    directory = Path(spec.directory)
    tokenizer = read_tokenizer(tokenizer_file(spec.directory))
    tokenizer.enable_truncation(max_length=spec.max_tokens, strategy="longest_first")
    raise_if_stopped(stopped)
    progress("weights", 0.0)
    model: bytes | Path
    weights: Path | None = None
    if bert_onnx.covers_pair(directory):
        model, file = bert_onnx.build_pair(directory)
        weights = file.parent
    else:
        model = shipped_graph(spec, directory)
    session, passes = open_graph(model, weights, directory)
    progress("weights", 1.0)
    raise_if_stopped(stopped)
    return OnnxReranker(spec, session, tokenizer, passes)


# Forward passes -----------------------------------------------------------------------------------------------------
# Which texts share a pass, how many passes run at once, and on how many cores each.
#
# A pass on all cores makes its threads wait for each other after every step; parallel passes, each on a core of its
# own, never wait. With the embedded model on two cores that is a quarter to a third more texts a second and a fifth
# less CPU a text (docs/decisions/0009). But a query is a single pass, and takes longer on one core: 9 ms instead
# of 6. So only small models run passes in parallel.

PADDED_TOKENS = 384
"""Tokens, padding included, of one pass.

Measured with the embedded model on texts of 20 to 254 tokens: from 256 to 512 there is no difference, 1,024 are a
tenth slower, 2,048 a fifth. Small passes also pad less and need less memory.
"""
SMALL = 25_000_000
"""Most weights in the layers of a model that runs passes in parallel: twelve layers of 384.

The next size in use has 85 million: eight times the embedded model's, whose query takes 9 ms on one core.
"""
MAX_PASSES = 8
"""Most passes at once, to limit the memory: the embedded model alone peaks at 197 MiB with one, 226 with two."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How a model makes its passes.

    Attributes:
        tokens: Padded tokens of one; a single text may have more.
        at_once: How many run in parallel.
        threads: Threads of each, 0 for one a core.
    """

    tokens: int = PADDED_TOKENS
    at_once: int = 1
    threads: int = 0

    @classmethod
    def of(cls, layer_weights: int, one_by_one: bool) -> Passes:
        """What suits a model.

        Args:
            layer_weights: Weights that every token meets, 0 when unknown.
            one_by_one: Each text must have a pass of its own.
        """
        tokens = 1 if one_by_one else PADDED_TOKENS
        return cls(tokens, cores(), 1) if 0 < layer_weights <= SMALL else cls(tokens)

    def run(self, forward: Callable[[list[int]], None], lengths: Sequence[int]) -> None:
        """Call ``forward`` with the indices of each pass's texts; returns when all are done.

        Args:
            forward: Runs one pass and stores its result; called from several threads when passes run in parallel.
            lengths: Tokens of each text.

        Raises:
            Exception: What ``forward`` raised first.
        """
        cut = list(batches(lengths, self.tokens, self.at_once))
        if min(len(cut), self.at_once) <= 1:
            for batch in cut:
                forward(batch)
            return
        with ThreadPoolExecutor(self.at_once, "model-pass") as threads:
            for _ in threads.map(forward, cut):
                pass


def batches(lengths: Sequence[int], budget: int, at_once: int = 1) -> Iterator[list[int]]:
    """Yield indices of texts, longest first, in batches of at most ``budget`` padded tokens, at least one text.

    Where several are worked on at once, none has more than its share of what is left, so that all end at about the
    same time: guided self-scheduling (Polychronopoulos and Kuck 1987).
    """
    order, left = sorted(range(len(lengths)), key=lambda i: -lengths[i]), sum(lengths)
    while order:
        share = budget if at_once == 1 else min(budget, left // at_once)
        n = max(1, share // max(1, lengths[order[0]]))
        yield order[:n]
        left -= sum(lengths[i] for i in order[:n])
        order = order[n:]


def cores() -> int:
    """Physical cores this process may use, at most ``MAX_PASSES``; virtual ones that share a core gain nothing."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(psutil.cpu_count(logical=False) or MAX_PASSES, allowed or 1, MAX_PASSES)
