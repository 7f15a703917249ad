"""From a reranker's name to a ``ModelSpec``: a cross-encoder's files, and what will load them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import SlotUnavailable
from indexer.model import device as devices
from indexer.model import recipe as recipes
from indexer.model.catalogue import lookup
from indexer.model.embedder import ModelSpec, Runtime
from indexer.model.identity import digest
from indexer.model.local import Missing, find, onnx_file, weight_files
from indexer.model.pair_graph import covers
from indexer.model.specs import RuntimeChoice, unavailable

_PAIRS = "ForSequenceClassification"


@dataclass(frozen=True, slots=True)
class RerankModel:
    """The reranker that the configuration names, as found on this machine.

    Attributes:
        name: As it was named.
        spec: What to load; None when it cannot be had.
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
    """Pin the cross-encoder ``name``: reads configuration files and, the first time, hashes the weights; no network.

    Arguments as those of ``specs.resolve``; rerankers that need code of their own are refused.

    Raises:
        SlotUnavailable: ``model_not_found``, ``offline_missing``, ``incompatible`` or ``corrupt_files``.
    """
    entry = lookup(name)
    located = find(name, hub_cache=hub_cache, data_dir=data_dir)
    if isinstance(located, Missing):
        raise unavailable(located, offline)
    directory = Path(located.directory)
    _check(name, directory)
    where = devices.detect().device if device == "auto" else device
    chosen = _runtime(name, directory, runtime, where)
    recipe = recipes.read(directory, entry)
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


def _check(name: str, directory: Path) -> None:
    """Refuse what is no cross-encoder with one number for a pair.

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
    if config.get("auto_map"):
        raise SlotUnavailable(
            "incompatible", f"The reranker {name} runs only with code from its own repository.", "Choose another one."
        )


def _runtime(name: str, directory: Path, runtime: RuntimeChoice, where: str) -> Runtime:
    """Choose what loads it: ONNX Runtime on the CPU wherever there is a form for it, torch otherwise."""
    weights, form = bool(weight_files(directory)), onnx_file(directory, lookup(name))
    if runtime == "onnx" or (runtime == "auto" and (where == "cpu" or not weights)):
        if form or covers(directory):
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
