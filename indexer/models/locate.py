"""Where a model's files are on this machine: found without torch, without network, without running its code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from indexer.models.catalogue import Entry, entries, lookup, nearest
from indexer.models.prepared import WEIGHTS_RECORD, conversion_key, find_prepared, prepare_command, read_verdict

Source = Literal["embedded", "directory", "hub"]

EXACT_FORMS = ("onnx/model.onnx", "model.onnx")
ONNX_FORMS = (*EXACT_FORMS, "onnx/model_quantized.onnx", "model_quantized.onnx")
"""Where repositories have their ONNX form, the exact one first."""


@dataclass(frozen=True, slots=True)
class Located:
    """A model whose files are on this machine.

    Attributes:
        directory: Where they are.
        source: Installed with a Python distribution, a local directory, or the hub's cache.
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
        code: ``model_not_found``, ``offline_missing``, ``incompatible``, or ``unprepared``: it is here, and
            ``folder-mcp models prepare`` makes it loadable.
        reason: One sentence for people.
        remedy: What to do, one sentence.
    """

    code: str
    reason: str
    remedy: str


def default_hub_cache() -> Path:
    """Return the default cache directory of the hub's client."""
    return Path.home() / ".cache" / "huggingface" / "hub"


def find(name: str, *, hub_cache: Path | None = None, data_dir: Path | None = None) -> Located | Missing:
    """Find the files of the model ``name``.

    A name that begins with ``/``, ``./``, ``../`` or ``~`` (or a drive letter) is a directory; any other is looked
    up in the catalogue and then in the hub's cache, so that a folder in the working directory never shadows it.

    Args:
        name: Catalogue name, hub repository ``owner/name``, or local directory.
        hub_cache: The hub cache, ``default_hub_cache()`` when None.
        data_dir: Where converted weights are kept; without it none are found.
    """
    if is_directory_name(name):
        return _find_directory(name, data_dir)
    entry = lookup(name)
    if entry and entry.distribution:
        embedded = _find_embedded(entry)
        if embedded:
            return embedded
    missing: Missing | None = None
    for directory in _snapshots(name, entry, hub_cache):
        located = _check_directory(directory, "hub", name, data_dir)
        if isinstance(located, Located):
            return located
        if missing is None and _is_pickled(directory):  # any other is an incomplete download
            missing = located
    return missing or _not_found(name, entry)


def find_pickled(name: str, *, hub_cache: Path | None = None) -> Located | None:
    """Find the model ``name`` by its pickled weights, whether or not they have been converted.

    Arguments as those of ``find``.
    """
    if is_directory_name(name):
        directory = Path(name).expanduser().resolve()
        return Located(str(directory), "directory") if _is_pickled(directory) else None
    snapshots = _snapshots(name, lookup(name), hub_cache)
    return next((Located(str(each), "hub", revision=each.name) for each in snapshots if _is_pickled(each)), None)


def is_directory_name(name: str) -> bool:
    """Whether ``name`` is written as a local directory, existing or not."""
    return name.startswith(("/", "./", "../", ".\\", "..\\", "~")) or Path(name).is_absolute() or name in (".", "..")


def weight_files(directory: Path) -> tuple[str, ...]:
    """Return the names of the safetensors files that hold the model, relative to ``directory``.

    Shards are those that the index names; the small matrices of later modules (``2_Dense``) come last. Empty when
    any file is missing.
    """
    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").is_file():
        names = ["model.safetensors"]
    elif index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = [f"{first}/model.safetensors" for first in module_paths(directory)[:1]]
    if not names or not all((directory / name).is_file() for name in names):
        return ()
    later = [f"{p}/model.safetensors" for p in module_paths(directory)]
    return (*names, *(n for n in later if n not in names and (directory / n).is_file()))


def pickled_files(directory: Path) -> tuple[str, ...]:
    """Return the names of the pickled files that hold a model without safetensors, relative to ``directory``.

    Empty when any file is missing, or when there are safetensors.
    """
    if weight_files(directory):
        return ()
    index = directory / "pytorch_model.bin.index.json"
    paths = module_paths(directory)
    if (directory / "pytorch_model.bin").is_file():
        names = ["pytorch_model.bin"]
    elif index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        names = sorted(name for name in shards if Path(name).name == name)
    else:
        names = [f"{paths[0]}/pytorch_model.bin"] if paths else []
    if not names or not all((directory / name).is_file() for name in names):
        return ()
    later = [path for path in paths if not (directory / path / "model.safetensors").is_file()]
    more = [f"{path}/pytorch_model.bin" for path in later]
    return (*names, *(n for n in more if n not in names and (directory / n).is_file()))


def onnx_file(directory: Path, entry: Entry | None = None) -> str:
    """Return the ONNX form in ``directory``, relative to it, or an empty string; the catalogue's choice first.

    Beside weights only an exact form counts: the vector key is made of the weights, and a quantised form has other
    vectors.
    """
    chosen = (entry.onnx,) if entry and entry.onnx else ()
    forms = EXACT_FORMS if weight_files(directory) else (*chosen, *ONNX_FORMS)
    return next((name for name in forms if (directory / name).is_file()), "")


def module_paths(directory: Path) -> tuple[str, ...]:
    """Return the directories of the model's modules, relative to ``directory``; none that lead out of it."""
    modules = directory / "modules.json"
    named = json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else []
    paths = [str(module["path"]) for module in named if module.get("path")]
    return tuple(path for path in paths if not Path(path).is_absolute() and ".." not in Path(path).parts)


def _find_embedded(entry: Entry) -> Located | None:
    """Find the files of an installed Python distribution, from its list of files alone."""
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


def _find_directory(name: str, data_dir: Path | None) -> Located | Missing:
    directory = Path(name).expanduser()
    if not directory.is_dir():
        return Missing("model_not_found", f"There is no model directory {directory}.", "Check the path.")
    return _check_directory(directory.resolve(), "directory", name, data_dir)


def _check_directory(directory: Path, source: Source, name: str, data_dir: Path | None) -> Located | Missing:
    """Return a directory as a model, or its converted weights, or why it cannot be loaded."""
    missing_file, revision = _missing_file(directory), directory.name if source == "hub" else ""
    pickles = pickled_files(directory) if _is_pickled(directory) else ()
    if pickles and data_dir is not None:
        key = conversion_key(directory, pickles, module_paths(directory), data_dir)
        if converted := find_prepared(data_dir, key, WEIGHTS_RECORD):
            return Located(str(converted[0]), source, converted[1].checks, revision)
        refused = read_verdict(data_dir, key, WEIGHTS_RECORD)
        if refused and not refused.ok and missing_file:
            reason = f"The pickled weights of {name} were refused: {refused.reason}."
            return Missing("incompatible", reason, "Choose another model, or one with safetensors.")
    if pickles and missing_file:
        reason = f"The model {name} cannot be loaded yet: its weights are pickled, which can run code."
        return Missing("unprepared", reason, f"Run: {prepare_command(name)}")
    if missing_file:
        return Missing("incompatible", f"The directory {directory} holds no usable model: {missing_file}.", _FORMS)
    return Located(str(directory), source, revision=revision)


_FORMS = "A model needs tokenizer.json, config.json and model.safetensors or an ONNX form (onnx/model.onnx)."


def _missing_file(directory: Path) -> str:
    """Return which file a directory lacks to be a model, empty when none."""
    if not _has_tokenizer(directory):
        return "tokenizer.json is missing"
    return "" if weight_files(directory) or onnx_file(directory) else "model.safetensors is missing"


def _is_pickled(directory: Path) -> bool:
    """Whether only its pickled weights keep a directory from being a model."""
    return directory.is_dir() and _has_tokenizer(directory) and bool(pickled_files(directory))


def _has_tokenizer(directory: Path) -> bool:
    return any((directory / path / "tokenizer.json").is_file() for path in ("", *module_paths(directory)))


def _repositories(name: str, entry: Entry | None) -> list[str]:
    if entry:
        return [entry.repo]
    return [name] if "/" in name else [f"sentence-transformers/{name}"]


def _snapshots(name: str, entry: Entry | None, hub_cache: Path | None) -> Iterator[Path]:
    """Yield the snapshots of a model in the hub's cache: first the one that ``refs/main`` names, then the latest."""
    for repo in _repositories(name, entry):
        root = (hub_cache or default_hub_cache()) / ("models--" + repo.replace("/", "--"))
        snapshots = root / "snapshots"
        if not snapshots.is_dir():
            continue
        ref = root / "refs" / "main"
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
        found = sorted(snapshots.iterdir(), key=lambda p: (p.name != commit, -p.stat().st_mtime))
        yield from (directory for directory in found if directory.is_dir())


def _not_found(name: str, entry: Entry | None) -> Missing:
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


# Availability -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether one model can be loaded from this machine.

    Attributes:
        name: As it was asked for.
        entry: Its catalogue entry, None when it has none.
        local: Whether it can be loaded.
        source: See ``Located``, empty when it cannot be loaded.
        directory: Likewise.
        code: Why not: ``model_not_found``, ``offline_missing``, ``unprepared``, ``incompatible`` or
            ``corrupt_files``; empty when it can be loaded.
        reason: The same as a sentence.
        remedy: What to do, one sentence.
    """

    name: str
    entry: Entry | None
    local: bool
    source: Source | str = ""
    directory: str = ""
    code: str = ""
    reason: str = ""
    remedy: str = ""


def availability(
    names: Iterable[str] | None = None, *, hub_cache: Path | None = None, data_dir: Path | None = None
) -> tuple[Availability, ...]:
    """Look for each model; damaged files are reported, never raised.

    Args:
        names: Models to look for; None asks for the whole catalogue.
        hub_cache: The hub's cache directory.
        data_dir: Where prepared models are kept.
    """
    models = [e.name for e in entries()] if names is None else list(names)
    return tuple(_availability_of(name, hub_cache, data_dir) for name in models)


def _availability_of(name: str, hub_cache: Path | None, data_dir: Path | None) -> Availability:
    entry = lookup(name)
    try:
        found = find(name, hub_cache=hub_cache, data_dir=data_dir)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        # modules.json or a weight index that cannot be read, or is not what it should be
        reason = f"The files of {name} are damaged: {e}"
        return Availability(name, entry, False, code="corrupt_files", reason=reason, remedy=_pull_again(name))
    if isinstance(found, Located):
        return Availability(name, entry, True, found.source, found.directory)
    return Availability(name, entry, False, code=found.code, reason=found.reason, remedy=found.remedy)


def _pull_again(name: str) -> str:
    return f"Delete them and run: folder-mcp models pull {name}"
