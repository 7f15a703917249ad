"""ONNX forms made here, once, of models that only torch can load; kept in the data directory with their proof.

``<data_dir>/models/<vector key>/`` holds ``model.onnx`` (and its data), the tokenizer, and ``export.json`` with the
source, the versions, the figures of the check and the verdict. A refusal is kept too: nothing is ever made twice.
How one comes to be, step by step, is in ``export_steps``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.model.embedder import Embedder, ModelSpec
from indexer.model.failure import ModelRefused
from indexer.model.identity import digest

if TYPE_CHECKING:
    from indexer.model.torch_runtime import TorchEmbedder
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
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "config.json", "sentence_bert_config.json")
_RECORD = "export.json"
_EXPECTED = "expected.npy"
"""In an export not yet compared: torch's vectors of the fixed texts; written last, so where it is all is there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of an export, as ``export.json`` keeps it.

    Attributes:
        key: Vector key of the model.
        ok: Whether the export serves from now on.
        reason: Why it was refused, empty when it was not.
        cosine: Least cosine between the runtimes over ``FIXED_TEXTS``, 0 when it never came to that.
        spread: Largest difference between a text alone and among others.
        versions: Versions of the packages that made it.
        checks: SHA-256 by file name.
    """

    key: str
    ok: bool
    reason: str = ""
    cosine: float = 0.0
    spread: float = 0.0
    versions: tuple[tuple[str, str], ...] = ()
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """An export not yet compared.

    Attributes:
        spec: What to load for the comparison.
        expected: The fixed texts as torch embedded them, float32 [n, dim].
    """

    spec: ModelSpec
    expected: Matrix


def verdict(data_dir: Path, key: str) -> Verdict | None:
    """Return what became of the export of ``key``, None when none was tried (or its record is damaged)."""
    try:
        fields = json.loads((_home(data_dir, key) / _RECORD).read_text(encoding="utf-8"))
        fields["versions"] = tuple(tuple(v) for v in fields["versions"])
        fields["checks"] = tuple(tuple(c) for c in fields["checks"])
        return Verdict(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def exported(data_dir: Path, key: str) -> tuple[Path, Verdict] | None:
    """Return where the export of ``key`` lies and its record, if there is one that passed."""
    found, home = verdict(data_dir, key), _home(data_dir, key)
    if found and found.ok and all((home / name).is_file() for name, _ in found.checks):
        return home, found
    return None


def due(spec: ModelSpec, data_dir: Path) -> bool:
    """Whether an export of ``spec`` should be made: torch serves it on the CPU, and none was ever tried."""
    return spec.runtime == "torch" and spec.device == "cpu" and verdict(data_dir, spec.key) is None


def draft(source: TorchEmbedder, data_dir: Path) -> Draft | Verdict:
    """Embed the fixed texts and export, with the torch model loaded; a refusal is recorded and returned.

    Raises:
        ModelRefused: ``dependency_missing`` or ``disk_full``.
    """
    import numpy as np  # noqa: PLC0415

    from indexer.model.torch_export import Unexportable, write  # noqa: PLC0415

    spec = source.spec
    part = _part(data_dir, spec.key)
    shutil.rmtree(part, ignore_errors=True)
    _check_space(Path(spec.directory), data_dir)
    part.mkdir(parents=True)
    expected = source.embed_passages(FIXED_TEXTS)
    try:
        write(source.module, part / "model.onnx", spec.max_tokens)
    except Unexportable as e:
        return refuse(data_dir, spec.key, str(e))
    _copy_configuration(Path(spec.directory), part)
    written = part / f"{_EXPECTED}.part"
    with written.open("wb") as file:
        np.save(file, expected)
    written.rename(part / _EXPECTED)
    return _draft(spec, part, expected)


def drafted(spec: ModelSpec, data_dir: Path) -> Draft | None:
    """Return the export of ``spec`` that was written but not compared yet, also by an earlier process."""
    import numpy as np  # noqa: PLC0415

    part = _part(data_dir, spec.key)
    try:
        return _draft(spec, part, np.load(part / _EXPECTED, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None


def refuse(data_dir: Path, key: str, reason: str) -> Verdict:
    """Record that the model ``key`` stays with torch."""
    _part(data_dir, key).mkdir(parents=True, exist_ok=True)
    return _record(data_dir, Verdict(key, ok=False, reason=reason, versions=_versions()))


def _draft(spec: ModelSpec, part: Path, expected: Matrix) -> Draft:
    return Draft(replace(spec, runtime="onnx", directory=str(part), checks=()), expected)


def judge(copy: Embedder, made: Draft, data_dir: Path) -> Verdict:
    """Compare the loaded export with what torch said, keep it or refuse it, and record which."""
    import numpy as np  # noqa: PLC0415

    together = copy.embed_passages(FIXED_TEXTS)
    alone = np.concatenate([copy.embed_passages([text]) for text in FIXED_TEXTS])
    cosine = float((together * made.expected).sum(axis=1).min())
    spread = float(np.abs(together - alone).max())
    reason = ""
    if not cosine >= COSINE:
        reason = f"its vectors differ from torch's: cosine {cosine:.5f}, at least {COSINE} is asked"
    elif not spread <= INVARIANCE:
        reason = f"its vectors depend on what else is in the batch: by {spread:.1e}, at most {INVARIANCE} is allowed"
    part = _part(data_dir, made.spec.key)
    files = sorted(part.glob("model.onnx*"))
    checks = () if reason else tuple((file.name, digest(file)) for file in files)
    return _record(data_dir, Verdict(made.spec.key, not reason, reason, cosine, spread, _versions(), checks))


def _record(data_dir: Path, outcome: Verdict) -> Verdict:
    """Write the record; the finished directory appears in one step, a refused one holds the record alone."""
    part, home = _part(data_dir, outcome.key), _home(data_dir, outcome.key)
    if not outcome.ok:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    (part / _EXPECTED).unlink(missing_ok=True)
    (part / _RECORD).write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)
    return outcome


def _copy_configuration(source: Path, part: Path) -> None:
    from indexer.model import recipe  # noqa: PLC0415

    root = source / recipe.read(source).root
    for name in _BESIDE:
        file = root / name if (root / name).is_file() else source / name
        if file.is_file():
            shutil.copyfile(file, part / name)


def _check_space(source: Path, data_dir: Path) -> None:
    """Refuse to begin what cannot fit: an export is as large as the float32 weights, at most twice the files."""
    need = 2 * sum(f.stat().st_size for f in source.rglob("*.safetensors")) + 64 * 1024 * 1024
    data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if free < need:
        message = f"The ONNX form of {source.name} needs {need >> 20} MiB in {data_dir}, {free >> 20} MiB are free."
        raise ModelRefused("disk_full", message)


def _versions() -> tuple[tuple[str, str], ...]:
    names = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")
    found = {dist.metadata["Name"].lower(): dist.version for n in names for dist in metadata.distributions(name=n)}
    return tuple((name, found[name]) for name in names if name in found)


def _home(data_dir: Path, key: str) -> Path:
    return data_dir / "models" / key


def _part(data_dir: Path, key: str) -> Path:
    return data_dir / "models" / f"{key}.part"
