"""From a model's name to a ``ModelSpec``: where its files are, what its vectors are called, what will load it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.errors import SlotUnavailable
from indexer.model import device as devices
from indexer.model import recipe as recipes
from indexer.model.bert_graph import covers
from indexer.model.catalogue import Entry, lookup
from indexer.model.embedder import ModelSpec, Runtime
from indexer.model.exports import exported
from indexer.model.identity import digest
from indexer.model.local import Located, Missing, find, onnx_file, weight_files
from indexer.model.prepared import prepare_command
from indexer.model.recipe import Recipe

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
    """Pin the model ``name``: reads configuration files and, the first time, hashes the weights; no network.

    Call it from a worker thread: hashing a large model takes about a second per GB once (see ``identity.digest``).

    Args:
        name: Catalogue name, hub repository, or local directory (see ``local.find``).
        data_dir: Where prepared models and hashes are kept; without it no prepared form is found.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        runtime: ``auto`` takes ONNX Runtime on the CPU wherever there is a form for it, torch otherwise.
        allow_remote_code: Whether the user lets code shipped with this very model run.
        hub_cache: The hub's cache directory.
        offline: Whether pulling is out of the question (changes the hint only).
        dtype: Number format on an accelerator; the CPU computes in ``float32``.

    Raises:
        SlotUnavailable: ``model_not_found``, ``offline_missing``, ``unprepared``, ``incompatible`` or
            ``corrupt_files``.
    """
    entry = lookup(name)
    located = find(name, hub_cache=hub_cache, data_dir=data_dir)
    if isinstance(located, Missing):
        raise unavailable(located, offline)
    model = _Model(name, entry, located, Path(located.directory), recipes.read(Path(located.directory), entry))
    recipe = model.recipe
    where = devices.detect().device if device == "auto" else device
    key = vector_key(model, data_dir)
    export = exported(data_dir, key) if data_dir else None
    chosen, directory = _runtime(model, runtime, where, export[0] if export else None)
    checks = located.checks if directory == model.directory else export[1].checks if export else ()
    if recipe.remote_code and chosen == "torch" and model.needs_code and not allow_remote_code:
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
    """A model found on this machine, before anything is decided about it."""

    name: str
    entry: Entry | None
    located: Located
    directory: Path
    recipe: Recipe

    @property
    def needs_code(self) -> bool:
        """Whether torch can run it only with its own code, as far as the catalogue knows."""
        return self.entry.remote_code if self.entry else self.recipe.remote_code

    @property
    def onnx(self) -> str:
        """Its shipped ONNX form, relative to its directory, or empty."""
        return onnx_file(self.directory, self.entry)


def vector_key(model: _Model, data_dir: Path | None = None) -> str:
    """Return the name of this model's vectors: lower-case letters, digits and ``_``, at most 51 characters.

    It hashes everything that makes a vector: the weights' bytes, the tokenizer, pooling, prompts. Runtime and device
    are no part of it, so both runtimes of the same weights share one index. A quantised form has other bytes, hence
    another key.
    """
    known, directory, recipe = dict(model.located.checks), model.directory, model.recipe
    files = weight_files(directory) or _onnx_parts(directory, model.onnx)
    tokenizer = directory / recipe.root / "tokenizer.json"
    made_of = {
        "weights": [known.get(file) or digest(directory / file, data_dir) for file in files],
        "tokenizer": digest(tokenizer if tokenizer.is_file() else directory / "tokenizer.json", data_dir),
        "pooling": [recipe.pooling, recipe.pools_prompt, recipe.lower_case],
        "prompts": [recipe.query_prompt, recipe.passage_prompt],
    }
    short = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:10]
    last = (model.entry.repo if model.entry else model.name).rsplit("/", 1)[-1]
    if model.located.source == "directory":  # its name, also where the weights are a conversion elsewhere
        last = Path(model.name).expanduser().resolve().name
    slug = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")[:40].strip("_") or "model"
    return f"{slug}_{short}"


def _onnx_parts(directory: Path, file: str) -> tuple[str, ...]:
    """Return an ONNX form's files: the graph, and its data beside it where that is a file of its own."""
    parts = (file, f"{file}_data", f"{file}.data")
    return tuple(p for p in parts if p and (directory / p).is_file())


def _runtime(model: _Model, runtime: RuntimeChoice, where: str, export: Path | None) -> tuple[Runtime, Path]:
    """Choose what loads the model and from where."""
    has_weights = bool(weight_files(model.directory))
    if runtime == "onnx" or (runtime == "auto" and (where == "cpu" or not has_weights)):
        if covers(model.directory, model.recipe) or (model.onnx and _poolable(model.recipe)):
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
    """Whether an ONNX form with token vectors can be finished by us: pooling and length only."""
    simple = set(recipe.modules) <= {"Transformer", "Pooling", "Normalize"}
    return simple and recipe.pooling in ("mean", "cls", "last") and recipe.pools_prompt


def unavailable(missing: Missing, offline: bool) -> SlotUnavailable:
    """The error for a model that is not here; in offline mode it says what that forbids."""
    remedy = missing.remedy
    if offline and missing.code == "offline_missing":
        remedy = f"{remedy} (offline mode is on: switch it off once for that)"
    return SlotUnavailable(missing.code, missing.reason, remedy)
