"""Safetensors made of pickled weights, which could run code and are never loaded as a model.

torch's restricted unpickler reads them: it makes tensors and containers, and refuses everything else without executing
it. The result is a model directory of ours, ``<data_dir>/models/weights_<digest>/``, with the model's configuration
and ``weights.json``; the user's own files are only read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.model import prepared
from indexer.model.failure import classify
from indexer.model.identity import digest
from indexer.model.prepared import Verdict

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "weights.json"
_CONFIGURATION = (".json", ".txt", ".model", ".py", ".md")
_CONFIGURATION_LIMIT = 64 * 1024 * 1024
# Lines of torch's message on refused pickles that say nothing of the file.
_ADVICE = re.compile(r"\s*(Weights only load failed|Check the documentation|Please file an issue|$)")


class _Refused(Exception):
    """Weights that are not converted; the message says why."""


def key_of(directory: Path, files: Iterable[str], modules: Iterable[str], data_dir: Path) -> str:
    """Return the name under which the conversion of ``files`` is kept: it changes with any file that makes the model.

    Args:
        directory: The model's directory.
        files: Its pickled weights, relative to it.
        modules: Directories of its modules, relative to it.
        data_dir: Where digests of large files are remembered.
    """
    names = [*files, *_beside(directory, modules)]
    made_of = {name: digest(directory / name, data_dir) for name in names}
    return f"weights_{hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]}"


def convert(
    directory: Path, files: tuple[str, ...], modules: tuple[str, ...], data_dir: Path, said: Callable[[str], None]
) -> Verdict:
    """Write safetensors of the pickled weights, verify them tensor by tensor, and record.

    The same weights always give the same bytes, hence the same vector key.

    Args:
        directory: The model's directory.
        files: Its pickled weights, relative to it.
        modules: Directories of its modules, relative to it.
        data_dir: The data directory.
        said: Told of each file.

    Raises:
        indexer.model.failure.ModelRefused: The disk is full; nothing is recorded.
        OSError: The data directory cannot be written; nothing is recorded.
        Exception: What reading the weights raises for want of memory or a package; nothing is recorded.
    """
    key, beside = key_of(directory, files, modules, data_dir), _beside(directory, modules)
    size = sum((directory / name).stat().st_size for name in (*files, *beside))
    prepared.check_space(size, data_dir, f"The safetensors form of {directory}")
    with prepared.workspace(data_dir, key) as part:
        for name in beside:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, part / name)
        try:
            written = _write(directory, files, part, said)
        except _Refused as refused:
            outcome = Verdict(key, ok=False, reason=str(refused), versions=prepared.versions())
            return prepared.keep(part, data_dir, outcome, RECORD)
        said("computing checksums")
        weights = (*written, *(name for name in beside if name.endswith(".safetensors")))
        checks = tuple((name, digest(part / name)) for name in weights)
        outcome = Verdict(key, ok=True, versions=prepared.versions(), checks=checks)
        return prepared.keep(part, data_dir, outcome, RECORD)


def _write(directory: Path, files: tuple[str, ...], part: Path, said: Callable[[str], None]) -> list[str]:
    """Convert file by file, each with one read and one write; the names written."""
    written: list[str] = []
    parts: dict[str, str] = {}
    for name in files:
        said(f"converting {name}")
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
    import pickle  # noqa: PLC0415 - for the name of an error
    import zipfile  # noqa: PLC0415

    import torch  # noqa: PLC0415

    try:
        # Mapped where the format allows it: the weights are read once, as they are written.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        said = next((line for line in str(error).splitlines() if not _ADVICE.match(line)), "it cannot be read")
        raise _Refused(f"{name} holds more than tensors, or is damaged: {said.rstrip('.')}") from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever an unpickler raises of a file that is none; recorded as a sentence
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
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

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
    """Whether two tensors have the same type, shape and bytes: undefined numbers are equal to themselves here."""
    import torch  # noqa: PLC0415

    def raw(tensor: Tensor) -> Any:
        return tensor.reshape(-1).view(torch.uint8)

    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and bool(torch.equal(raw(one), raw(other)))


def _target(name: str) -> str:
    return re.sub(r"pytorch_model(-\d+-of-\d+)?\.bin$", r"model\1.safetensors", name)


def _beside(directory: Path, modules: Iterable[str]) -> tuple[str, ...]:
    """The model's configuration, tokenizer and card, and the safetensors that later modules have already."""
    found: set[str] = set()
    for module in ("", *modules):
        place = directory / module
        for file in place.iterdir() if place.is_dir() else ():
            small = file.suffix in _CONFIGURATION and not file.name.endswith(".index.json")
            if file.is_file() and (
                (small and file.stat().st_size <= _CONFIGURATION_LIMIT) or (module and file.suffix == ".safetensors")
            ):
                found.add(file.relative_to(directory).as_posix())
    return tuple(sorted(found))
