"""ONNX forms of models that only torch can load, made once by torch's exporter and compared with torch.

One that passed lies in ``<data_dir>/models/<vector key>/``: ``model.onnx`` (and its data), the tokenizer, and
``export.json`` with the figures of the comparison.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.model import prepared
from indexer.model.embedder import Embedder, Loader, ModelSpec, embedding
from indexer.model.failure import classify
from indexer.model.identity import digest
from indexer.model.prepared import Verdict

if TYPE_CHECKING:
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
RECORD = "export.json"
UNLOADABLE = frozenset({"incompatible", "corrupt_files", "internal"})
"""What a load says of a form that is at fault itself."""
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "config.json", "sentence_bert_config.json")


def verdict(data_dir: Path, key: str) -> Verdict | None:
    """Return what became of the export of ``key``, None when none was tried."""
    return prepared.verdict(data_dir, key, RECORD)


def exported(data_dir: Path, key: str) -> tuple[Path, Verdict] | None:
    """Return where the export of ``key`` lies and its record, if there is one that passed."""
    return prepared.made(data_dir, key, RECORD)


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
        indexer.model.failure.ModelRefused: A package is missing or the disk is full; nothing is recorded.
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
        return prepared.keep(part, data_dir, outcome, RECORD)


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
    from indexer.model.torch_export import Unexportable, write  # noqa: PLC0415
    from indexer.model.torch_runtime import TorchEmbedder  # noqa: PLC0415

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
        model = embedding(loader.load(copy, _nothing, _never))
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
    from indexer.model import recipe  # noqa: PLC0415

    root = source / recipe.read(source).root
    for name in _BESIDE:
        file = root / name if (root / name).is_file() else source / name
        if file.is_file():
            shutil.copyfile(file, part / name)


def _nothing(stage: str, share: float) -> None:
    del stage, share


def _never() -> bool:
    return False
