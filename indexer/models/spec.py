"""From a model's name to a ``ModelSpec``: where its files are, the key of its vectors, which runtime loads it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.errors import SlotUnavailable
from indexer.models.bert_onnx import covers_encoder, covers_pair
from indexer.models.catalogue import Entry, lookup
from indexer.models.loader import detect_accelerator
from indexer.models.locate import Located, Missing, find, onnx_file, weight_files
from indexer.models.prepared import EXPORT_RECORD, digest, find_prepared, prepare_command
from indexer.models.recipe import Recipe, read_recipe
from indexer.slot.embedder import ModelSpec, Runtime

RuntimeChoice = Literal["auto", "torch", "onnx"]


def resolve(
    name: str,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    runtime: RuntimeChoice = "auto",
    allow_remote_code: bool = False,
    hub_cache: Path | None = None,
    offline: bool = False,
    dtype: str = "float32",
) -> ModelSpec:
    """Resolve the model ``name``: reads configuration files and, the first time, hashes the weights; no network.

    Call it from a worker thread: hashing a large model takes about a second per GB once (see ``prepared.digest``).

    Args:
        name: Catalogue name, hub repository, or local directory (see ``locate.find``).
        data_dir: Where prepared models and hashes are kept; without it no prepared form is found.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        runtime: ``auto`` takes ONNX Runtime on the CPU wherever there is a form for it, torch otherwise.
        allow_remote_code: Whether the user allows code of this model's repository to run.
        hub_cache: The hub's cache directory.
        offline: Whether downloads are forbidden (changes the hint only).
        dtype: Number format on an accelerator; the CPU computes in ``float32``.

    Raises:
        SlotUnavailable: ``model_not_found``, ``offline_missing``, ``unprepared``, ``incompatible`` or
            ``corrupt_files``.
    """
    entry = lookup(name)
    located = find(name, hub_cache=hub_cache, data_dir=data_dir)
    if isinstance(located, Missing):
        raise unavailable(located, offline)
    model = _Model(name, entry, located, Path(located.directory), read_recipe(Path(located.directory), entry))
    recipe = model.recipe
    where = detect_accelerator().device if device == "auto" else device
    key = vector_key(model, data_dir)
    export = find_prepared(data_dir, key, EXPORT_RECORD) if data_dir else None
    chosen, directory = _runtime(model, runtime, where, export[0] if export else None)
    checks = located.checks if directory == model.directory else export[1].checks if export else ()
    if recipe.remote_code and chosen == "torch" and not allow_remote_code:
        raise SlotUnavailable(
            "incompatible",
            f"The model {name} runs only with code from its own repository.",
            "Allow it for this model in the configuration (remote_code = true), or choose another model.",
        )
    return ModelSpec(
        name=entry.name if entry else name,
        key=key,
        directory=str(directory),
        dim=recipe.dim,
        max_tokens=recipe.max_tokens,
        query_prompt=recipe.query_prompt,
        passage_prompt=recipe.passage_prompt,
        normalize=True,
        runtime=chosen,
        device=where if chosen == "torch" else "cpu",
        dtype=dtype if chosen == "torch" and where != "cpu" else "float32",
        remote_code=allow_remote_code and recipe.remote_code,
        checks=checks,
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """A model found on this machine, before its runtime is chosen."""

    name: str
    entry: Entry | None
    located: Located
    directory: Path
    recipe: Recipe

    @property
    def onnx(self) -> str:
        """Its shipped ONNX form, relative to its directory, or empty."""
        return onnx_file(self.directory, self.entry)


def vector_key(model: _Model, data_dir: Path | None = None) -> str:
    """Return the key of this model's vectors: lower-case letters, digits and ``_``, at most 51 characters.

    It hashes everything that determines a vector: the weights' bytes, the tokenizer, pooling, prompts. Runtime and
    device are not part of it, so both runtimes of the same weights share one index. A quantised form has other bytes,
    hence another key.
    """
    known, directory, recipe = dict(model.located.checks), model.directory, model.recipe
    files = weight_files(directory) or _onnx_files(directory, model.onnx)
    tokenizer = directory / recipe.root / "tokenizer.json"
    made_of = {
        "weights": [known.get(file) or digest(directory / file, data_dir) for file in files],
        "tokenizer": digest(tokenizer if tokenizer.is_file() else directory / "tokenizer.json", data_dir),
        "pooling": [recipe.pooling, recipe.pools_prompt, recipe.lower_case],
        "prompts": [recipe.query_prompt, recipe.passage_prompt],
    }
    short = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:10]
    last = (model.entry.repo if model.entry else model.name).rsplit("/", 1)[-1]
    if model.located.source == "directory":  # the user's name for it; converted weights are in another directory
        last = Path(model.name).expanduser().resolve().name
    slug = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")[:40].strip("_") or "model"
    return f"{slug}_{short}"


def _onnx_files(directory: Path, file: str) -> tuple[str, ...]:
    """Return an ONNX form's files: the graph, and its data where that is a separate file."""
    parts = (file, f"{file}_data", f"{file}.data")
    return tuple(p for p in parts if p and (directory / p).is_file())


def _runtime(model: _Model, runtime: RuntimeChoice, where: str, export: Path | None) -> tuple[Runtime, Path]:
    """Choose what loads the model and from which directory."""
    has_weights = bool(weight_files(model.directory))
    if runtime == "onnx" or (runtime == "auto" and (where == "cpu" or not has_weights)):
        if covers_encoder(model.directory, model.recipe) or (model.onnx and _poolable(model.recipe)):
            return "onnx", model.directory
        if export:
            return "onnx", export
        if runtime == "onnx":
            raise SlotUnavailable(
                "incompatible",
                f"The model {model.name} has no ONNX form yet.",
                f'Run: {prepare_command(model.name)}, or set runtime = "auto": torch serves it.',
            )
    if not has_weights:
        raise SlotUnavailable(
            "incompatible",
            f"The model {model.name} is here only in an ONNX form that torch cannot load.",
            f'Set runtime = "onnx", or run: folder-mcp models pull {model.name} --runtime torch',
        )
    return "torch", model.directory


def _poolable(recipe: Recipe) -> bool:
    """Whether the rest of an ONNX form with token vectors is done here: pooling and scaling only."""
    simple = set(recipe.modules) <= {"Transformer", "Pooling", "Normalize"}
    return simple and recipe.pooling in ("mean", "cls", "last") and recipe.pools_prompt


def unavailable(missing: Missing, offline: bool) -> SlotUnavailable:
    """Return the error for a missing model; in offline mode the hint says that downloads are forbidden."""
    remedy = missing.remedy
    if offline and missing.code == "offline_missing":
        remedy = f"{remedy} (offline mode is on: switch it off once for that)"
    return SlotUnavailable(missing.code, missing.reason, remedy)


# Rerankers ----------------------------------------------------------------------------------------------------------

_PAIRS = "ForSequenceClassification"


@dataclass(frozen=True, slots=True)
class RerankModel:
    """The reranker that the configuration names, as found on this machine.

    Attributes:
        name: As configured.
        spec: What to load; None when it cannot be loaded.
        problem: Why not, else None.
        languages: ISO 639-1 codes it was made for; None when many or unknown.
    """

    name: str
    spec: ModelSpec | None
    problem: SlotUnavailable | None
    languages: frozenset[str] | None


def resolve_reranker(
    name: str,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    runtime: RuntimeChoice = "auto",
    hub_cache: Path | None = None,
    offline: bool = False,
) -> ModelSpec:
    """Resolve the cross-encoder ``name``, like ``resolve``.

    Rerankers that need code of their own are refused.

    Raises:
        SlotUnavailable: ``model_not_found``, ``offline_missing``, ``incompatible`` or ``corrupt_files``.
    """
    entry = lookup(name)
    located = find(name, hub_cache=hub_cache, data_dir=data_dir)
    if isinstance(located, Missing):
        raise unavailable(located, offline)
    directory = Path(located.directory)
    _check_cross_encoder(name, directory)
    where = detect_accelerator().device if device == "auto" else device
    chosen = _reranker_runtime(name, directory, runtime, where)
    recipe = read_recipe(directory, entry)
    known = dict(located.checks)
    files = weight_files(directory) or (onnx_file(directory, entry),)
    made_of = ["reranker", *(known.get(file) or digest(directory / file, data_dir) for file in files)]
    short = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:10]
    last = (entry.repo if entry else name).rstrip("/").rsplit("/", 1)[-1]
    slug = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")[:40].strip("_") or "model"
    return ModelSpec(
        name=entry.name if entry else name,
        key=f"{slug}_{short}",
        directory=str(directory),
        dim=0,
        max_tokens=recipe.max_tokens,
        runtime=chosen,
        device=where if chosen == "torch" else "cpu",
        checks=located.checks,
        kind="reranker",
    )


def is_cross_encoder(directory: Path) -> bool:
    """Whether the model in ``directory`` compares pairs of texts, by its configuration."""
    file = directory / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return any(str(kind).endswith(_PAIRS) for kind in config.get("architectures") or ())


def _check_cross_encoder(name: str, directory: Path) -> None:
    """Check that a model is a cross-encoder that makes one number for a pair.

    Raises:
        SlotUnavailable: ``incompatible`` or ``corrupt_files``.
    """
    file = directory / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        kinds = [str(kind) for kind in config.get("architectures") or ()]
        labels = len(config["id2label"]) if "id2label" in config else int(config.get("num_labels", 2))
    except (ValueError, TypeError, AttributeError) as e:
        remedy = "Delete this model's files and pull it again."
        raise SlotUnavailable("corrupt_files", f"{file} is damaged: {e}", remedy) from e
    if not any(kind.endswith(_PAIRS) for kind in kinds) or labels != 1:
        raise SlotUnavailable(
            "incompatible",
            f"{name} is no reranker: that is a sequence classification model with one label.",
            "Name one in search.rerank (folder-mcp models list shows some), or leave it empty.",
        )
    if config.get("auto_map") or read_recipe(directory).remote_code:
        raise SlotUnavailable(
            "incompatible", f"The reranker {name} runs only with code from its own repository.", "Choose another one."
        )


def _reranker_runtime(name: str, directory: Path, runtime: RuntimeChoice, where: str) -> Runtime:
    """Choose ONNX Runtime on the CPU wherever there is a form for it, torch otherwise."""
    weights, form = bool(weight_files(directory)), onnx_file(directory, lookup(name))
    if runtime == "onnx" or (runtime == "auto" and (where == "cpu" or not weights)):
        if form or covers_pair(directory):
            return "onnx"
        if runtime == "onnx":
            raise SlotUnavailable(
                "incompatible",
                f"The reranker {name} has no ONNX form.",
                'Set model.runtime = "auto": torch serves it.',
            )
    if not weights:
        raise SlotUnavailable(
            "incompatible",
            f"The reranker {name} is here only in an ONNX form that torch cannot load.",
            f'Set model.runtime = "onnx", or run: folder-mcp models pull {name} --runtime torch',
        )
    return "torch"
