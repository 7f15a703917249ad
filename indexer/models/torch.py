"""Models run by sentence-transformers on torch: the runtime on accelerators, and for models without an ONNX form.

``loader`` imports this module on the model thread, in the ``runtime`` stage of a load: ten seconds of CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers.utils import logging as transformers_log

from indexer.models.recipe import unit_rows
from indexer.models.tokenizer import break_long_runs, read_tokenizer, tokenizer_file
from indexer.slot.embedder import ModelSpec, Progress
from indexer.slot.failure import raise_if_stopped
from indexer.types import Matrix, Vector

M = TypeVar("M", bound=torch.nn.Module)


class TorchEmbedder:
    """A sentence-transformers model; all methods run on the model thread."""

    def __init__(self, spec: ModelSpec, model: SentenceTransformer) -> None:
        dim = int(model.get_embedding_dimension() or spec.dim)
        self._spec = replace(spec, dim=dim)
        self._model: SentenceTransformer | None = model

    @property
    def spec(self) -> ModelSpec:
        """What was loaded."""
        return self._spec

    @property
    def module(self) -> SentenceTransformer:
        """The torch module itself: for the export, and for tests that it is freed.

        Raises:
            RuntimeError: After ``close``.
        """
        if self._model is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        return self._model

    def embed_query(self, text: str) -> Vector:
        """Embed one query with the query prompt: float32 [dim], unit length."""
        vector: Vector = self._encode([text], self._spec.query_prompt)[0]
        return vector

    def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """Embed one micro-batch with the passage prompt: float32 [n, dim], rows of unit length."""
        return self._encode(texts, self._spec.passage_prompt)

    def close(self) -> None:
        """Drop the model; memory comes back with the next garbage collection."""
        self._model = None

    def _encode(self, texts: Sequence[str], prompt: str) -> Matrix:
        short = [break_long_runs(text, self._spec.max_tokens) for text in texts]
        # An empty prompt is passed too: None would mean the model's own default prompt.
        raw = self.module.encode(
            short,
            prompt=prompt,
            batch_size=max(len(short), 1),
            show_progress_bar=False,
            convert_to_numpy=True,
            precision="float32",
        )
        return unit_rows(raw, self._spec.dim)


def load_embedder(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> TorchEmbedder:
    """Load a model from its local directory (see ``open_model``).

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    model = open_model(SentenceTransformer, spec, progress, stopped)
    with suppress(AttributeError):  # a static table of vectors has no limit to set
        model.max_seq_length = spec.max_tokens
    return TorchEmbedder(spec, model)


def open_model(
    make: Callable[..., M], spec: ModelSpec, progress: Progress, stopped: Callable[[], bool], **more: object
) -> M:
    """Open a model of either kind: no download, no pickled weights, no code of the model's unless allowed.

    Args:
        make: The class of sentence-transformers.
        spec: What to open.
        progress: Called at the stages ``tokenizer`` and ``weights``.
        stopped: Called between them.
        **more: Further arguments of ``make``.

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    transformers_log.disable_progress_bar()
    progress("tokenizer", 0.0)
    read_tokenizer(tokenizer_file(spec.directory))  # a damaged file is reported as such here
    raise_if_stopped(stopped)
    progress("weights", 0.0)
    model = make(
        spec.directory,
        device=spec.device,
        local_files_only=True,
        trust_remote_code=spec.remote_code,
        model_kwargs={"use_safetensors": True, "dtype": getattr(torch, spec.dtype)},
        **more,
    )
    model.eval()
    progress("weights", 1.0)
    raise_if_stopped(stopped)
    return model


# Rerankers ----------------------------------------------------------------------------------------------------------


class TorchReranker:
    """A sentence-transformers cross-encoder; all methods run on the model thread."""

    def __init__(self, spec: ModelSpec, model: CrossEncoder) -> None:
        self._spec = spec
        self._model: CrossEncoder | None = model

    @property
    def spec(self) -> ModelSpec:
        """What was loaded."""
        return self._spec

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query: logits, in the order of the texts."""
        if self._model is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        asked = break_long_runs(query, self._spec.max_tokens)
        found = self._model.predict(
            [(asked, break_long_runs(text, self._spec.max_tokens)) for text in texts],
            batch_size=max(len(texts), 1),
            show_progress_bar=False,
            activation_fn=torch.nn.Identity(),
            convert_to_numpy=True,
        )
        return [float(value) for value in found]

    def close(self) -> None:
        """Drop the model; memory comes back with the next garbage collection."""
        self._model = None


def load_reranker(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> TorchReranker:
    """Load a cross-encoder from its local directory (see ``open_model``).

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    return TorchReranker(spec, open_model(CrossEncoder, spec, progress, stopped, max_length=spec.max_tokens))
