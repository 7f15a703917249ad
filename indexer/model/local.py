"""Where a model's files lie on this machine: found without torch, without network, without running its code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from indexer.model.catalogue import Entry, lookup, nearest

Source = Literal["embedded", "directory", "hub"]

EXACT_FORMS = ("onnx/model.onnx", "model.onnx")
ONNX_FORMS = (*EXACT_FORMS, "onnx/model_quantized.onnx", "model_quantized.onnx")
"""Where repositories keep their ONNX form, the exact one first."""


@dataclass(frozen=True, slots=True)
class Located:
    """A model whose files are here.

    Attributes:
        directory: Where they lie.
        source: What kind of place that is.
        checks: SHA-256 by file name, for the files whose hash is known beforehand.
        revision: Commit of the snapshot in the hub cache, otherwise empty.
    """

    directory: str
    source: Source
    checks: tuple[tuple[str, str], ...] = ()
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that cannot be loaded from this machine.

    Attributes:
        code: ``model_not_found``, ``offline_missing`` or ``incompatible``.
        reason: One sentence for people.
        remedy: What to do, one sentence.
    """

    code: str
    reason: str
    remedy: str


def default_hub_cache() -> Path:
    """Return where the hub's client keeps models unless told otherwise."""
    return Path.home() / ".cache" / "huggingface" / "hub"


def find(name: str, *, hub_cache: Path | None = None) -> Located | Missing:
    """Find the files of the model ``name``.

    A name that begins with ``/``, ``./``, ``../`` or ``~`` (or a drive letter) is a directory; any other is looked
    up in the catalogue and then in the hub's cache, so that a folder in the working directory never shadows it.

    Args:
        name: Catalogue name, hub repository ``owner/name``, or local directory.
        hub_cache: The hub cache, ``default_hub_cache()`` when None.
    """
    if is_directory_name(name):
        return _directory(name)
    entry = lookup(name)
    if entry and entry.distribution:
        embedded = _embedded(entry)
        if embedded:
            return embedded
    cache = hub_cache or default_hub_cache()
    for repo in _repositories(name, entry):
        located = _snapshot(cache, repo)
        if located:
            return located
    return _missing(name, entry)


def is_directory_name(name: str) -> bool:
    """Whether ``name`` means a local directory, by its form alone."""
    return name.startswith(("/", "./", "../", ".\\", "..\\", "~")) or Path(name).is_absolute() or name in (".", "..")


def weight_files(directory: Path) -> tuple[str, ...]:
    """Return the names of the safetensors files that hold the model, relative to ``directory``.

    Shards are named by the index; the small matrices of later modules (``2_Dense``) come after. Empty when the
    weights are not all there.
    """
    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").is_file():
        names = ["model.safetensors"]
    elif index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        first = next(iter(_module_paths(directory)), "")
        names = [f"{first}/model.safetensors"] if first else []
    if not names or not all((directory / name).is_file() for name in names):
        return ()
    later = [f"{p}/model.safetensors" for p in _module_paths(directory)]
    return (*names, *(n for n in later if n not in names and (directory / n).is_file()))


def onnx_file(directory: Path, entry: Entry | None = None) -> str:
    """Return the ONNX form in ``directory``, relative to it, or an empty string; the catalogue's choice first.

    Beside weights only an exact form counts: vectors are named after the weights, and a quantised form makes others.
    """
    wanted = (entry.onnx,) if entry and entry.onnx else ()
    forms = EXACT_FORMS if weight_files(directory) else (*wanted, *ONNX_FORMS)
    return next((name for name in forms if (directory / name).is_file()), "")


def _module_paths(directory: Path) -> Iterator[str]:
    modules = directory / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text(encoding="utf-8")):
            if module.get("path"):
                yield str(module["path"])


def _embedded(entry: Entry) -> Located | None:
    """Find the files a Python distribution carries, from its list of files alone."""
    try:
        files = metadata.distribution(entry.distribution).files or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "model.safetensors":
            weights = Path(str(file.locate()))
            if weights.is_file():
                return Located(str(weights.resolve().parent), "embedded", entry.checks)
    return None


def _directory(name: str) -> Located | Missing:
    directory = Path(name).expanduser()
    if not directory.is_dir():
        return Missing("model_not_found", f"There is no model directory {directory}.", "Check the path.")
    lack = _lack(directory)
    if lack:
        return Missing("incompatible", f"The directory {directory} holds no usable model: {lack}.", _FORMS)
    return Located(str(directory.resolve()), "directory")


_FORMS = "A model needs tokenizer.json, config.json and model.safetensors or an ONNX form (onnx/model.onnx)."


def _lack(directory: Path) -> str:
    """Say what a directory lacks to be a model, empty when nothing."""
    if not any((directory / p).is_file() for p in ("tokenizer.json", *_tokenizers(directory))):
        return "tokenizer.json is missing"
    if weight_files(directory) or onnx_file(directory):
        return ""
    if (directory / "pytorch_model.bin").is_file():
        return "its weights are pickled (pytorch_model.bin), which can run code and is refused"
    return "model.safetensors is missing"


def _tokenizers(directory: Path) -> list[str]:
    return [f"{path}/tokenizer.json" for path in _module_paths(directory)]


def _repositories(name: str, entry: Entry | None) -> list[str]:
    if entry:
        return [entry.repo]
    return [name] if "/" in name else [f"sentence-transformers/{name}"]


def _snapshot(cache: Path, repo: str) -> Located | None:
    """Find the newest complete snapshot of ``repo``: the one ``refs/main`` names, else the latest."""
    root = cache / ("models--" + repo.replace("/", "--"))
    snapshots = root / "snapshots"
    if not snapshots.is_dir():
        return None
    ref = root / "refs" / "main"
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    found = sorted(snapshots.iterdir(), key=lambda p: (p.name != commit, -p.stat().st_mtime))
    for directory in found:
        if directory.is_dir() and not _lack(directory):
            return Located(str(directory), "hub", revision=directory.name)
    return None


def _missing(name: str, entry: Entry | None) -> Missing:
    if entry or "/" in name:
        reason = f"The model {name} is not on this machine."
        return Missing("offline_missing", reason, f"Run: folder-mcp models pull {name}")
    close = nearest(name)
    remedy = f"Did you mean {close}? " if close else ""
    return Missing(
        "model_not_found",
        f"There is no model called {name}.",
        f"{remedy}See: folder-mcp models list, or give a hub name (owner/name) or a directory (/path or ./path).",
    )
