"""torch's ONNX exporter, applied to a whole sentence-transformers chain: token ids in, sentence vector out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.model.failure import ModelRefused

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Unexportable(Exception):
    """A model that cannot be written as ONNX; the message says why."""


def write(model: SentenceTransformer, file: Path, max_tokens: int) -> None:
    """Write ``model`` to ``file``, its weights to ``<file>.data``.

    The graph takes ``input_ids`` and ``attention_mask`` int64 [batch, tokens], both axes free, and returns
    ``sentence_embedding`` float32 [batch, dim]. The exporter that traces (``dynamo=False``) fixes the length it
    sees into DistilBERT and MPNet (differences of 0.3 and 0.5 measured), so the other one is used.

    Raises:
        Unexportable: The exporter cannot follow the model.
        ModelRefused: ``dependency_missing`` when the exporter's packages are not installed.
    """
    try:
        import onnxscript  # noqa: F401, PLC0415
        import torch  # noqa: PLC0415
    except ImportError as e:
        raise ModelRefused("dependency_missing", f"Making an ONNX form needs a package: {e}.") from None

    transformer, *rest = list(model)
    if not hasattr(transformer, "auto_model") or any(not getattr(m, "include_prompt", True) for m in rest):
        raise Unexportable(f"its chain of modules is not covered: {', '.join(type(m).__name__ for m in model)}")
    # Two texts of a length that is no special case: sizes 0 and 1 would be fixed into the graph.
    tokens = min(12, max_tokens)
    ids = torch.ones((2, tokens), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, tokens - 3 :] = 0
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), warnings.catch_warnings(), _silence():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _chain(transformer.auto_model, rest),
                (ids, mask),
                file,
                input_names=["input_ids", "attention_mask"],
                output_names=["sentence_embedding"],
                dynamic_shapes={"input_ids": free, "attention_mask": free},
                external_data=True,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError) as e:
        raise Unexportable(f"torch cannot export it: {str(e).splitlines()[0][:200]}") from None


def _chain(encoder: Any, rest: list[Any]) -> Any:
    """Join the encoder and the modules behind it into one torch module."""
    import torch  # noqa: PLC0415

    class Chain(torch.nn.Module):  # type: ignore[misc]  # the exporter takes modules only
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.rest = torch.nn.ModuleList(rest)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            features = {"token_embeddings": hidden, "attention_mask": attention_mask}
            for module in self.rest:
                features = module(features)
            return features["sentence_embedding"]

    return Chain().eval()


@contextlib.contextmanager
def _silence() -> Any:
    """Keep the exporter's progress off stdout, which belongs to the client, and its hints out of the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
