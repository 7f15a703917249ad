"""ONNX forms of models that only torch can load, made once by torch's exporter and compared with torch.

One that passed lies in ``<data_dir>/models/<vector key>/``: ``model.onnx`` (and its data), the tokenizer, and
``export.json`` with the figures of the comparison.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.models import prepared
from indexer.models.prepared import Verdict, digest
from indexer.slot.embedder import Embedder, Loader, ModelSpec, as_embedder
from indexer.slot.failure import ModelRefused, classify

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from indexer.types import Matrix


COSINE = 0.999
"""Least cosine between a text's vectors of both runtimes."""
INVARIANCE = 1e-4
"""Largest difference of any number of a vector between a text embedded alone and among others."""
FIXED_TEXTS = (
    "The lease may be ended by either party with three months' notice in writing.",
    "Ein Vermieter darf die Kaution erst nach Ablauf der Prüffrist zurückhalten.",
    "Le moteur doit être révisé tous les quinze mille kilomètres.",
    "この説明書は、使用する前に必ずお読みください。",
    "会议记录应当在三个工作日内发送给所有与会者。",
    "Договор вступает в силу с момента его подписания обеими сторонами.",
    "يجب حفظ الدواء في مكان بارد وجاف بعيدا عن متناول الأطفال.",
    "def area(radius: float) -> float:\n    return math.pi * radius**2\n",
    "yes",
    "Temperature 21.5 °C, pressure 1013 hPa, wind 3 m/s from the north-west. " * 12,
)
"""What both runtimes embed for the comparison: scripts, code, one word, a long passage."""
EXPORT_RECORD = "export.json"
UNLOADABLE = frozenset({"incompatible", "corrupt_files", "internal"})
"""What a load says of a form that is at fault itself."""
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "config.json", "sentence_bert_config.json")


def verdict(data_dir: Path, key: str) -> Verdict | None:
    """Return what became of the export of ``key``, None when none was tried."""
    return prepared.verdict(data_dir, key, EXPORT_RECORD)


def exported(data_dir: Path, key: str) -> tuple[Path, Verdict] | None:
    """Return where the export of ``key`` lies and its record, if there is one that passed."""
    return prepared.made(data_dir, key, EXPORT_RECORD)


def due(spec: ModelSpec, data_dir: Path) -> bool:
    """Whether an export of ``spec`` should be made: torch serves it on the CPU, and none was refused.

    Rerankers have none: the exporter's graph ends in a sentence's vector.
    """
    only_torch = (spec.kind, spec.runtime, spec.device) == ("embedder", "torch", "cpu")
    return only_torch and verdict(data_dir, spec.key) is None


def export(spec: ModelSpec, loader: Loader, data_dir: Path, said: Callable[[str], None]) -> Verdict:
    """Export the torch model ``spec``, compare and record. Never are two models in memory.

    A model that torch cannot export is refused, with the reason, like one whose vectors differ.

    Args:
        spec: The model.
        loader: Loads it, and its ONNX form.
        data_dir: The data directory.
        said: Told of each stage.

    Raises:
        indexer.slot.failure.ModelRefused: A package is missing or the disk is full; nothing is recorded.
        OSError: The data directory cannot be written; nothing is recorded.
        Exception: Whatever loading the model raises; nothing is recorded.
    """
    source = Path(spec.directory)
    # As large as the float32 weights: at most twice the files.
    size = sum(file.stat().st_size for file in source.rglob("*.safetensors"))
    prepared.check_space(2 * size, data_dir, f"The ONNX form of {spec.name}")
    with prepared.workspace(data_dir, spec.key) as part:
        expected = _written(spec, loader, part, said)
        gc.collect()  # a module graph is cyclic: only a collection makes it go
        if isinstance(expected, str):
            outcome = _refused(spec.key, expected)
        else:
            copy = replace(spec, runtime="onnx", directory=str(part), checks=())
            outcome = _loaded_and_compared(copy, expected, loader, said)
            gc.collect()  # the session holds the file, which could not be renamed on Windows
        if outcome.ok:
            files = sorted(part.glob("model.onnx*"))
            outcome = replace(outcome, checks=tuple((file.name, digest(file)) for file in files))
        return prepared.keep(part, data_dir, outcome, EXPORT_RECORD)


def compare(copy: Embedder, expected: Matrix) -> Verdict:
    """Compare a loaded export with the vectors that torch made of the fixed texts, float32 [n, dim]."""
    import numpy as np  # noqa: PLC0415

    together = copy.embed_passages(FIXED_TEXTS)
    alone = np.concatenate([copy.embed_passages([text]) for text in FIXED_TEXTS])
    cosine = float((together * expected).sum(axis=1).min())
    spread = float(np.abs(together - alone).max())
    reason = ""
    if not cosine >= COSINE:
        reason = f"its vectors differ from torch's: cosine {cosine:.5f}, at least {COSINE} is asked"
    elif not spread <= INVARIANCE:
        reason = f"its vectors depend on what else is in the batch: by {spread:.1e}, at most {INVARIANCE} is allowed"
    return Verdict(copy.spec.key, not reason, reason, cosine, spread, prepared.versions())


def _written(spec: ModelSpec, loader: Loader, part: Path, said: Callable[[str], None]) -> Matrix | str:
    """Write the ONNX form into ``part``; the fixed texts as torch embedded them, or why it cannot be written."""
    from indexer.models.torch import TorchEmbedder  # noqa: PLC0415

    said("loading the model with torch")
    model = loader.load(replace(spec, runtime="torch"), _nothing, _never)
    try:
        if not isinstance(model, TorchEmbedder):
            raise TypeError(f"only a torch model can be exported, not {type(model).__name__}")
        expected = model.embed_passages(FIXED_TEXTS)
        said("writing the ONNX form")
        write(model.module, part / "model.onnx", spec.max_tokens)
    except Unexportable as error:
        return str(error)
    finally:
        model.close()
    _copy_configuration(Path(spec.directory), part)
    return expected


def _loaded_and_compared(copy: ModelSpec, expected: Matrix, loader: Loader, said: Callable[[str], None]) -> Verdict:
    said("loading the ONNX form")
    try:
        model = as_embedder(loader.load(copy, _nothing, _never))
    except Exception as error:  # whatever a runtime raises of a graph it cannot run; recorded as a sentence
        found = classify(error)
        if found.code not in UNLOADABLE:
            raise
        return _refused(copy.key, f"ONNX Runtime cannot load it: {found.message}")
    try:
        said("comparing it with torch")
        return compare(model, expected)
    finally:
        model.close()


def _refused(key: str, reason: str) -> Verdict:
    return Verdict(key, ok=False, reason=reason, versions=prepared.versions())


def _copy_configuration(source: Path, part: Path) -> None:
    from indexer.models import recipe  # noqa: PLC0415

    root = source / recipe.read(source).root
    for name in _BESIDE:
        file = root / name if (root / name).is_file() else source / name
        if file.is_file():
            shutil.copyfile(file, part / name)


def _nothing(stage: str, share: float) -> None:
    del stage, share


def _never() -> bool:
    return False


# The exporter of torch ----------------------------------------------------------------------------------------------
# torch's ONNX exporter, applied to a whole sentence-transformers chain: token ids in, sentence vector out.


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
