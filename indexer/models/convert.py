"""Conversions of a model's files, made in the process that prepares it: pickled weights to safetensors, torch to ONNX.

This module loads torch. ``prepared`` keeps the results and knows without torch which of them there are.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from indexer.models import prepared
from indexer.models.prepared import (
    EXPORT_RECORD,
    WEIGHTS_RECORD,
    Verdict,
    companion_files,
    conversion_key,
    digest,
    versions,
)
from indexer.models.recipe import read_recipe
from indexer.slot.embedder import Embedder, Loader, ModelSpec, as_embedder
from indexer.slot.failure import ModelRefused, classify

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from indexer.models.torch import TorchEmbedder
    from indexer.types import Matrix

# Pickled weights to safetensors -------------------------------------------------------------------------------------
# Pickled weights can run code and are never loaded as a model. torch's restricted unpickler reads them: it makes
# tensors and containers, and refuses everything else without executing it. The result is a model directory of ours,
# ``<data_dir>/models/weights_<digest>/``, with the model's configuration; the user's own files are only read.

# Lines of torch's message on refused pickles that say nothing about the file.
_ADVICE = re.compile(r"\s*(Weights only load failed|Check the documentation|Please file an issue|$)")


class _Refused(Exception):
    """The weights cannot be converted; the message says why."""


def convert_weights(
    directory: Path, files: tuple[str, ...], modules: tuple[str, ...], data_dir: Path, report: Callable[[str], None]
) -> Verdict:
    """Write safetensors of the pickled weights, verify them tensor by tensor, and record.

    The same weights always give the same bytes, hence the same vector key.

    Args:
        directory: The model's directory.
        files: Its pickled weights, relative to it.
        modules: Directories of its modules, relative to it.
        data_dir: The data directory.
        report: Called with each file.

    Raises:
        indexer.slot.failure.ModelRefused: The disk is full; nothing is recorded.
        OSError: The data directory cannot be written; nothing is recorded.
        Exception: What reading the weights raises for want of memory or a package; nothing is recorded.
    """
    key, companions = conversion_key(directory, files, modules, data_dir), companion_files(directory, modules)
    size = sum((directory / name).stat().st_size for name in (*files, *companions))
    prepared.check_space(size, data_dir, f"The safetensors form of {directory}")
    with prepared.workspace(data_dir, key) as part:
        for name in companions:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, part / name)
        try:
            written = _write(directory, files, part, report)
        except _Refused as refused:
            outcome = Verdict(key, ok=False, reason=str(refused), versions=versions())
            return prepared.publish(part, data_dir, outcome, WEIGHTS_RECORD)
        report("computing checksums")
        weights = (*written, *(name for name in companions if name.endswith(".safetensors")))
        checks = tuple((name, digest(part / name)) for name in weights)
        outcome = Verdict(key, ok=True, versions=versions(), checks=checks)
        return prepared.publish(part, data_dir, outcome, WEIGHTS_RECORD)


def _write(directory: Path, files: tuple[str, ...], part: Path, report: Callable[[str], None]) -> list[str]:
    """Convert file by file, each with one read and one write; the names written."""
    written: list[str] = []
    parts: dict[str, str] = {}
    for name in files:
        report(f"converting {name}")
        tensors = _read(directory / name, name)
        target = _target(name)
        (part / target).parent.mkdir(parents=True, exist_ok=True)
        _save(tensors, part / target, name)
        written.append(target)
        if re.search(r"-of-\d+\.bin$", name):
            parts |= dict.fromkeys(tensors, target)
        del tensors
    if parts:
        index = {"metadata": {}, "weight_map": dict(sorted(parts.items()))}
        (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return written


def _read(file: Path, name: str) -> dict[str, Tensor]:
    """Read named tensors and nothing else.

    Raises:
        _Refused: There is more in the file, or it is damaged.
    """
    try:
        # Mapped where the format allows it: the weights are read once, as they are written.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if not _ADVICE.match(line)), "it cannot be read")
        raise _Refused(f"{name} holds more than tensors, or is damaged: {reason.rstrip('.')}") from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # an unpickler raises anything on a file that is no pickle; recorded as a sentence
        if classify(error).code == "out_of_memory_host":
            raise
        raise _Refused(f"{name} is damaged: {str(error).partition('. ')[0] or 'it ends too early'}") from None
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items())
    ):
        raise _Refused(f"{name} is not a set of named tensors")
    return found


def _save(tensors: Mapping[str, Tensor], target: Path, name: str) -> None:
    """Write and read back.

    Raises:
        _Refused: The tensors are of a kind that safetensors do not know, or come back otherwise.
    """
    own = _separate(tensors)
    try:
        save_file(own, target, metadata={"format": "pt"})
    except (ValueError, KeyError, NotImplementedError) as error:
        raise _Refused(f"{name} has tensors that cannot be written: {str(error).partition('. ')[0]}") from None
    with safe_open(target, framework="pt") as back:
        same = set(back.keys()) == set(own)
        if not same or not all(_equal(back.get_tensor(key), tensor) for key, tensor in own.items()):
            raise _Refused(f"{name} came back with other numbers than were written")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in order, each with memory of its own: the format knows no shared ones (tied weights)."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for key, tensor in sorted(tensors.items()):
        plain = tensor.detach().contiguous()
        place = plain.untyped_storage().data_ptr()
        if place in seen or plain.untyped_storage().nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(place)
        own[key] = plain
    return own


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same type, shape and bytes; so NaN equals NaN here."""

    def raw(tensor: Tensor) -> Any:
        return tensor.reshape(-1).view(torch.uint8)

    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and bool(torch.equal(raw(one), raw(other)))


def _target(name: str) -> str:
    return re.sub(r"pytorch_model(-\d+-of-\d+)?\.bin$", r"model\1.safetensors", name)


# Torch to ONNX ------------------------------------------------------------------------------------------------------

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
_UNLOADABLE = frozenset({"incompatible", "corrupt_files", "internal"})
"""Failures of a load whose cause is the ONNX form itself."""
_CONFIGURATION = ("tokenizer.json", "tokenizer_config.json", "config.json", "sentence_bert_config.json")


class Unexportable(Exception):
    """A model that cannot be written as ONNX; the message says why."""


def export_onnx(spec: ModelSpec, loader: Loader, data_dir: Path, report: Callable[[str], None]) -> Verdict:
    """Export the torch model ``spec`` to ONNX, compare the vectors and record the outcome.

    There is never more than one model in memory. A model that torch cannot export is refused, with the reason, like
    one whose vectors differ. One that passed is in ``<data_dir>/models/<vector key>/``: ``model.onnx`` (and its data),
    the tokenizer, and ``export.json`` with the figures of the comparison.

    Args:
        spec: The model.
        loader: Loads it, and its ONNX form.
        data_dir: The data directory.
        report: Called with each stage.

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
        expected = _written(spec, loader, part, report)
        gc.collect()  # a module graph is cyclic: only a collection frees it
        if isinstance(expected, str):
            outcome = _refused(spec.key, expected)
        else:
            copy = replace(spec, runtime="onnx", directory=str(part), checks=())
            outcome = _loaded_and_compared(copy, expected, loader, report)
            gc.collect()  # the session holds the file, which could not be renamed on Windows
        if outcome.ok:
            files = sorted(part.glob("model.onnx*"))
            outcome = replace(outcome, checks=tuple((file.name, digest(file)) for file in files))
        return prepared.publish(part, data_dir, outcome, EXPORT_RECORD)


def compare(copy: Embedder, expected: Matrix) -> Verdict:
    """Compare the loaded ONNX form with the vectors that torch made of the fixed texts, float32 [n, dim]."""
    together = copy.embed_passages(FIXED_TEXTS)
    alone = np.concatenate([copy.embed_passages([text]) for text in FIXED_TEXTS])
    cosine = float((together * expected).sum(axis=1).min())
    spread = float(np.abs(together - alone).max())
    reason = ""
    if not cosine >= COSINE:
        reason = f"its vectors differ from torch's: cosine {cosine:.5f}, at least {COSINE} is asked"
    elif not spread <= INVARIANCE:
        reason = f"its vectors depend on what else is in the batch: by {spread:.1e}, at most {INVARIANCE} is allowed"
    return Verdict(copy.spec.key, not reason, reason, cosine, spread, versions())


def _written(spec: ModelSpec, loader: Loader, part: Path, report: Callable[[str], None]) -> Matrix | str:
    """Write the ONNX form into ``part``; the fixed texts as torch embedded them, or why it cannot be written."""
    report("loading the model with torch")
    model = cast("TorchEmbedder", as_embedder(loader.load(replace(spec, runtime="torch"), _nothing, _never)))
    try:
        expected = model.embed_passages(FIXED_TEXTS)
        report("writing the ONNX form")
        write_onnx(model.module, part / "model.onnx", spec.max_tokens)
    except Unexportable as error:
        return str(error)
    finally:
        model.close()
    _copy_configuration(Path(spec.directory), part)
    return expected


def _loaded_and_compared(copy: ModelSpec, expected: Matrix, loader: Loader, report: Callable[[str], None]) -> Verdict:
    report("loading the ONNX form")
    try:
        model = as_embedder(loader.load(copy, _nothing, _never))
    except Exception as error:  # a runtime raises anything on a graph it cannot run; recorded as a sentence
        failure = classify(error)
        if failure.code not in _UNLOADABLE:
            raise
        return _refused(copy.key, f"ONNX Runtime cannot load it: {failure.message}")
    try:
        report("comparing it with torch")
        return compare(model, expected)
    finally:
        model.close()


def _refused(key: str, reason: str) -> Verdict:
    return Verdict(key, ok=False, reason=reason, versions=versions())


def _copy_configuration(source: Path, part: Path) -> None:
    root = source / read_recipe(source).root
    for name in _CONFIGURATION:
        file = root / name if (root / name).is_file() else source / name
        if file.is_file():
            shutil.copyfile(file, part / name)


def write_onnx(model: SentenceTransformer, file: Path, max_tokens: int) -> None:
    """Write ``model`` to ``file``, its weights to ``<file>.data``.

    The graph takes ``input_ids`` and ``attention_mask`` int64 [batch, tokens], both axes free, and returns
    ``sentence_embedding`` float32 [batch, dim]. The exporter that traces (``dynamo=False``) fixes the length it
    sees into DistilBERT and MPNet (differences of 0.3 and 0.5 measured), so the other one is used.

    Raises:
        Unexportable: The exporter cannot follow the model.
        ModelRefused: ``dependency_missing`` when the exporter's packages are not installed.
    """
    try:
        import onnxscript  # noqa: F401, PLC0415 - the exporter's, which would name it less clearly
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
                _Chain(transformer.auto_model, rest).eval(),
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


class _Chain(torch.nn.Module):  # type: ignore[misc]  # the exporter takes modules only
    """The encoder and the modules behind it as one torch module."""

    def __init__(self, encoder: Any, rest: list[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.rest = torch.nn.ModuleList(rest)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features = {"token_embeddings": hidden, "attention_mask": attention_mask}
        for module in self.rest:
            features = module(features)
        return features["sentence_embedding"]


@contextlib.contextmanager
def _silence() -> Any:
    """Keep the exporter's progress off stdout, which the caller reads, and its hints out of the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _nothing(stage: str, share: float) -> None:
    del stage, share


def _never() -> bool:
    return False
