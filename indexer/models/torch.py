"""A model loaded by sentence-transformers on torch: the runtime of accelerators, and of what has no ONNX form."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from indexer.models.onnx import unit_rows
from indexer.models.tokenizer import cut, read_tokenizer, tokenizer_file
from indexer.slot import failure as stopping
from indexer.slot.embedder import ModelSpec, Progress

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from torch import nn

    from indexer.types import Matrix, Vector


M = TypeVar("M", bound="nn.Module")


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
        """The torch module itself, for the export and for proofs that it is gone.

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
        short = [cut(text, self._spec.max_tokens) for text in texts]
        # An empty prompt is passed too: None would let a default prompt of the model's own in.
        raw = self.module.encode(
            short,
            prompt=prompt,
            batch_size=max(len(short), 1),
            show_progress_bar=False,
            convert_to_numpy=True,
            precision="float32",
        )
        return unit_rows(raw, self._spec.dim)


def prepare() -> None:
    """Import the runtime: ten seconds of CPU the first time, nothing after it."""
    quiet()
    import sentence_transformers  # noqa: F401, PLC0415
    from transformers.utils import logging as transformers_log  # noqa: PLC0415

    transformers_log.disable_progress_bar()


def load_embedder(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> TorchEmbedder:
    """Load a model from its local directory (see ``open_model``).

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = open_model(SentenceTransformer, spec, progress, stopped)
    with suppress(AttributeError):  # static tables have no limit of their own to set
        model.max_seq_length = spec.max_tokens
    return TorchEmbedder(spec, model)


def open_model(
    make: Callable[..., M], spec: ModelSpec, progress: Progress, stopped: Callable[[], bool], **more: object
) -> M:
    """Open a model of either kind: nothing is fetched, no pickled weights, no code unless allowed.

    Args:
        make: The class of sentence-transformers.
        spec: What to open.
        progress: Told of the stages ``tokenizer`` and ``weights``.
        stopped: Asked between them.
        **more: Arguments of that class alone.

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    import torch  # noqa: PLC0415

    progress("tokenizer", 0.0)
    read_tokenizer(tokenizer_file(spec.directory))  # a damaged one is named as such here
    stopping.raise_if_stopped(stopped)
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
    stopping.raise_if_stopped(stopped)
    return model


def quiet() -> None:
    """Keep the libraries from telemetry, from drawing bars and from threads in the tokenizer.

    They offer no other switch than their environment variables, read at import: so these are set here, before it.
    Offline mode is not among them: it would hold for a later ``models pull`` of this process too; loads are kept
    from the network by ``local_files_only`` and a directory for a name.
    """
    settings = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)  # house: the libraries have no other switch


def release() -> None:
    """Give an accelerator's cached blocks back to its driver; nothing to do if torch was never imported."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.ipc_collect()
    if torch.backends.mps.is_available():
        torch.mps.synchronize()
        torch.mps.empty_cache()


# Rerankers ----------------------------------------------------------------------------------------------------------
# A cross-encoder on torch, by sentence-transformers: for accelerators, and for what has no ONNX form.


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
        import torch  # noqa: PLC0415

        if self._model is None:
            raise RuntimeError(f"the model {self._spec.name} is closed")
        asked = cut(query, self._spec.max_tokens)
        found = self._model.predict(
            [(asked, cut(text, self._spec.max_tokens)) for text in texts],
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
    """Load a cross-encoder from its local directory (see ``torch_runtime.open_model``).

    Raises:
        indexer.slot.failure.Stopped: ``stopped`` was true between two stages.
    """
    from sentence_transformers import CrossEncoder  # noqa: PLC0415

    return TorchReranker(spec, open_model(CrossEncoder, spec, progress, stopped, max_length=spec.max_tokens))
