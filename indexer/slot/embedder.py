"""The interface between the slot and models: protocols of a model and its loader, and the data that names a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, cast

from indexer.types import Matrix, Vector

Runtime = Literal["torch", "onnx"]
Kind = Literal["embedder", "reranker"]
Progress = Callable[[str, float], None]
"""``progress(stage, share)``: stage and share done, 0 to 1; a load without calls for long counts as hung."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A resolved model: everything that determines its vectors, and where its files are.

    Attributes:
        name: As the user or the catalogue names it.
        key: Names the vectors: lower-case letters, digits and ``_``; equal keys mean interchangeable vectors, so
            the runtime and the device are no part of it.
        directory: Local directory with the model's files.
        dim: Length of a vector; 0 when it is only known after the load.
        max_tokens: How much of a text the model takes, in tokens, special tokens included.
        query_prompt: Prepended to a query.
        passage_prompt: Prepended to a passage.
        normalize: Whether the runtime must scale vectors to unit length (they always have it on return).
        runtime: What loads it.
        device: ``cpu``, ``cuda``, ``mps``.
        dtype: ``float32``, ``float16``, ``bfloat16``.
        remote_code: Whether the user allows code shipped with this model to run.
        checks: SHA-256 by file name relative to ``directory``, verified before the first load.
        kind: ``embedder`` makes vectors of texts, ``reranker`` compares a query with texts (``dim`` is then 0).
    """

    name: str
    key: str
    directory: str
    dim: int
    max_tokens: int
    query_prompt: str = ""
    passage_prompt: str = ""
    normalize: bool = True
    runtime: Runtime = "torch"
    device: str = "cpu"
    dtype: str = "float32"
    remote_code: bool = False
    checks: tuple[tuple[str, str], ...] = field(default=())
    kind: Kind = "embedder"

    @property
    def load_key(self) -> tuple[str, str, str, str]:
        """Equal for two specs when the same loaded model serves both."""
        return (self.key, self.runtime, self.device, self.dtype)


class Embedder(Protocol):
    """A loaded model. All methods run on the model thread, one at a time."""

    @property
    def spec(self) -> ModelSpec:
        """What was loaded (``dim`` filled in)."""

    def embed_query(self, text: str) -> Vector:
        """Embed one query with the query prompt: float32 [dim], unit length."""

    def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """Embed one micro-batch with the passage prompt: float32 [n, dim], rows of unit length."""

    def close(self) -> None:
        """Drop every reference to the weights. Called once; nothing is called after it."""


class Reranker(Protocol):
    """A loaded cross-encoder. All methods run on the model thread, one at a time."""

    @property
    def spec(self) -> ModelSpec:
        """What was loaded."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query: the model's logits, higher is better, in the order of the texts."""

    def close(self) -> None:
        """Drop every reference to the weights. Called once; nothing is called after it."""


Model: TypeAlias = Embedder | Reranker
"""What a slot can hold."""


def as_embedder(model: Model) -> Embedder:
    """``model`` as an embedder.

    Raises:
        TypeError: It is a reranker.
    """
    if model.spec.kind != "embedder":
        raise TypeError(f"{model.spec.name} is a reranker: it makes no vectors")
    return cast(Embedder, model)


def as_reranker(model: Model) -> Reranker:
    """``model`` as a reranker.

    Raises:
        TypeError: It is an embedder.
    """
    if model.spec.kind != "reranker":
        raise TypeError(f"{model.spec.name} is no reranker")
    return cast(Reranker, model)


class Loader(Protocol):
    """Turns a spec into a model; runs on the model thread."""

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Model:
        """Load, self-test with one forward pass, and return the model.

        Calls ``progress`` at each stage (``runtime``, ``files``, ``tokenizer``, ``weights``, ``self-test``) and
        checks ``stopped`` between stages, raising ``indexer.slot.failure.Stopped`` when it is true.

        Raises:
            Exception: What the libraries raise; ``indexer.slot.failure.classify`` converts it.
        """

    def release(self) -> None:
        """Release what a closed model has left (device caches). Called after ``close`` and garbage collection."""
