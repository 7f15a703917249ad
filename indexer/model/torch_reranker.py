"""A cross-encoder on torch, by sentence-transformers: for accelerators, and for what has no ONNX form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indexer.model import torch_runtime
from indexer.model.cut import cut
from indexer.model.embedder import ModelSpec, Progress

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


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


def load(spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> TorchReranker:
    """Load a cross-encoder from its local directory (see ``torch_runtime.open_model``).

    Raises:
        indexer.model.failure.Stopped: ``stopped`` was true between two stages.
    """
    from sentence_transformers import CrossEncoder  # noqa: PLC0415

    return TorchReranker(
        spec, torch_runtime.open_model(CrossEncoder, spec, progress, stopped, max_length=spec.max_tokens)
    )
