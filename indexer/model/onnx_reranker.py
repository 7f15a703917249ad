"""A cross-encoder run by ONNX Runtime: query and text go through the model together, one number comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import indexer.model.stop as stopping
from indexer.model import onnx_runtime, pair_graph
from indexer.model.cut import cut
from indexer.model.embedder import ModelSpec, Progress
from indexer.model.passes import Passes
from indexer.model.tokenizer import read_tokenizer, tokenizer_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer


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
        asked = cut(query, self._spec.max_tokens)
        pairs = [(asked, cut(text, self._spec.max_tokens)) for text in texts]
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
        import numpy as np  # noqa: PLC0415

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


def load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> OnnxReranker:
    """Load a cross-encoder from its local directory.

    Raises:
        SlotUnavailable: ``corrupt_files`` or ``offline_missing``.
        indexer.model.failure.Stopped: ``stopped`` was true between two stages.
    """
    progress("tokenizer", 0.0)
    directory = Path(spec.directory)
    tokenizer = read_tokenizer(tokenizer_file(spec.directory))
    tokenizer.enable_truncation(max_length=spec.max_tokens, strategy="longest_first")
    stopping.check(stopped)
    progress("weights", 0.0)
    model: bytes | Path
    weights: Path | None = None
    if pair_graph.covers(directory):
        model, file = pair_graph.build(directory)
        weights = file.parent
    else:
        model = onnx_runtime.shipped_graph(spec, directory)
    session, passes = onnx_runtime.open_graph(model, weights, directory)
    progress("weights", 1.0)
    stopping.check(stopped)
    return OnnxReranker(spec, session, tokenizer, passes)
