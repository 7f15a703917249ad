"""Downloads a model from the hub: the only code here that uses the network, and only for a name the user gave."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import tqdm

from indexer.errors import SlotUnavailable
from indexer.models.catalogue import CARD, Entry, lookup
from indexer.models.locate import (
    ONNX_FORMS,
    Located,
    Missing,
    default_hub_cache,
    find,
    find_pickled,
    is_directory_name,
)
from indexer.slot.failure import HINTS

BytesDone = Callable[[int, int], None]
"""``progress(done, total)``, bytes; called on the downloading threads."""

MARGIN = 256 * 1024 * 1024
"""Bytes that stay free on the disk after a download."""

_CONFIGURATION = (".json", ".txt", ".model")
_CONFIGURATION_LIMIT = 64 * 1024 * 1024
_PICKLED = re.compile(r"(.*/)?pytorch_model(-\d+-of-\d+)?\.bin")
_COPIES = ("onnx/", "openvino/")


class Hub(Protocol):
    """A source of models."""

    def files(self, repo: str) -> Mapping[str, int]:
        """Return the repository's files with their sizes in bytes."""

    def fetch(self, repo: str, names: list[str], cache: Path, advance: Callable[[int], None]) -> None:
        """Download files into the cache, resuming an earlier attempt; ``advance`` is called with new bytes."""


def pull(
    name: str,
    *,
    hub_cache: Path | None = None,
    progress: BytesDone = lambda _done, _total: None,
    offline: bool = False,
    runtime: Literal["auto", "torch", "onnx"] = "auto",
    hub: Hub | None = None,
) -> Located:
    """Download the model ``name`` and return where it is; files that are here already are not downloaded again.

    Pickled weights are downloaded when a repository has no others; they cannot be loaded before they are converted
    (see ``prepare``). Blocks for minutes: run it on a thread, outside the slot. Files of an interrupted download are
    kept.

    Args:
        name: Catalogue name or hub repository.
        hub_cache: Where to put it, the hub's own cache when None.
        progress: Called with the bytes so far.
        offline: Refuse instead of using the network.
        runtime: Which form to download when a repository has several; ``auto`` follows the catalogue.
        hub: The source; the Hugging Face hub when None.

    Raises:
        SlotUnavailable: ``offline_missing`` in offline mode, ``model_not_found``, ``incompatible`` (no form that can
            be loaded), ``disk_full``.
        Exception: What the hub's client raises; ``indexer.slot.failure.classify`` converts it.
    """
    cache = hub_cache or default_hub_cache()
    entry = lookup(name)
    if is_directory_name(name):
        raise SlotUnavailable("model_not_found", f"{name} is a directory, not a model of the hub.", "Give a hub name.")
    here = find(name, hub_cache=cache)
    if isinstance(here, Located) and (here.source == "embedded" or runtime == "auto"):
        return here
    pickles = find_pickled(name, hub_cache=cache) if runtime != "onnx" else None
    if pickles:
        return pickles
    if offline:
        raise SlotUnavailable("offline_missing", f"Offline mode is on: {name} is not fetched.", "Switch it off once.")
    if isinstance(here, Missing) and here.code == "model_not_found":
        raise SlotUnavailable(here.code, here.reason, here.remedy)
    repo = entry.repo if entry else name
    hub = hub or HuggingFace()
    files = hub.files(repo)
    chosen = files_to_download(files, entry, runtime)
    if not chosen:
        raise SlotUnavailable(
            "incompatible", f"{repo} has neither weights nor an ONNX form that fit.", "Choose another model."
        )
    _download(hub, repo, {n: files[n] for n in chosen}, cache, progress)
    found = find(name, hub_cache=cache)
    if isinstance(found, Missing) and found.code == "unprepared":
        found = find_pickled(name, hub_cache=cache) or found
    if isinstance(found, Missing):
        raise SlotUnavailable("incompatible", f"{repo} was fetched, but: {found.reason}", "Choose another model.")
    return found


def files_to_download(
    files: Mapping[str, int], entry: Entry | None, runtime: Literal["auto", "torch", "onnx"]
) -> list[str]:
    """Return the files to download: one form of the weights, the tokenizer, the configuration; empty if none fits.

    Args:
        files: The repository's files with their sizes.
        entry: Its catalogue entry.
        runtime: Which form.
    """
    tensors = [n for n in files if n.endswith(".safetensors") and not n.startswith("onnx/")]
    forms = [f for f in ((entry.onnx,) if entry and entry.onnx else ()) + ONNX_FORMS if f in files]
    onnx_first = runtime == "onnx" or (runtime == "auto" and entry is not None and bool(entry.onnx))
    if runtime == "torch" or (tensors and not (onnx_first and forms)):
        weights = tensors
    else:
        weights = [n for f in forms[:1] for n in (f, f"{f}_data", f"{f}.data") if n in files]
    if not weights and runtime != "onnx":
        weights = [n for n in files if _PICKLED.fullmatch(n) and not n.startswith(_COPIES)]
    small = [
        n
        for n, size in files.items()
        if (n.endswith(_CONFIGURATION) or n == CARD) and size <= _CONFIGURATION_LIMIT and not n.startswith(_COPIES)
    ]
    return sorted({*weights, *small}) if weights else []


def _download(hub: Hub, repo: str, chosen: Mapping[str, int], cache: Path, progress: BytesDone) -> None:
    """Check the free space, then download."""
    total = sum(chosen.values())
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < total + MARGIN:
        raise SlotUnavailable(
            "disk_full",
            f"{repo} takes {total >> 20} MiB, {cache} has {free >> 20} MiB free.",
            f"Free {(total + MARGIN - free >> 20) + 1} MiB.",
        )
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done = min(done + n, total)
        progress(done, total)

    progress(0, total)
    hub.fetch(repo, list(chosen), cache, advance)
    progress(total, total)


class HuggingFace:
    """The Hugging Face hub, through its own client."""

    def files(self, repo: str) -> Mapping[str, int]:
        """Return the repository's files with their sizes in bytes."""
        try:
            info = HfApi().model_info(repo, files_metadata=True)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:  # the hub answers 401, as it does for a private repository
            reason = f"The hub has no model {repo} that this user may see."
            raise SlotUnavailable("model_not_found", reason, HINTS["model_not_found"]) from error
        return {s.rfilename: s.size or 0 for s in info.siblings or []}

    def fetch(self, repo: str, names: list[str], cache: Path, advance: Callable[[int], None]) -> None:
        """Download files into the cache, resuming an earlier attempt; ``advance`` is called with new bytes."""
        snapshot_download(repo, cache_dir=cache, allow_patterns=names, tqdm_class=_counter(advance))


def _counter(advance: Callable[[int], None]) -> Any:
    """Make the progress-bar class that the client asks for: it draws nothing and reports the bytes written to disk."""

    class Counter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The client makes three bars: bytes received, bytes written (named so), files.
            self._counts = kwargs.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self._counts and n:
                advance(int(n))

    return Counter
