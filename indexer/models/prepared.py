"""What was made of models on this machine, and kept: ``<data_dir>/models/<key>/`` with a record of how it went.

A refusal is recorded too, with its reason, so that it is shown and nothing is made twice. A directory appears under
its name in one step, when it has been verified: until then it is called ``<key>.part``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import SlotUnavailable
from indexer.slot.failure import ModelRefused, classify

if TYPE_CHECKING:
    from torch import Tensor


# Digests ------------------------------------------------------------------------------------------------------------
# What a model *is*: the SHA-256 of the files that make its vectors, computed once and remembered.

BLOCK = 4 * 1024 * 1024
"""Bytes read at once; a stop is looked for in between."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_verified: dict[tuple[str, str], tuple[int, int]] = {}
_lock = threading.Lock()


def digest(path: Path, data_dir: Path | None = None) -> str:
    """Return the SHA-256 of a file, hex.

    The whole file counts, not a sample: fine-tunings of one model share headers, sizes and long stretches of their
    weights. It is read once: the hub's cache names its large files by their SHA-256, and other files' hashes are
    kept in ``<data_dir>/models/digests.json`` with size and modification time (1 GB takes about a second).
    """
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name) and blob.parent.name == "blobs":
        return blob.name
    stat = blob.stat()
    mark = [stat.st_size, stat.st_mtime_ns]
    kept = data_dir / "models" / "digests.json" if data_dir else None
    known = _known(kept).get(str(blob)) if kept else None
    if known and known[:2] == mark:
        return str(known[2])
    value = _sha256(blob)
    if kept and stat.st_size > BLOCK:
        _keep(kept, str(blob), [*mark, value])
    return value


def verify(
    directory: Path,
    checks: tuple[tuple[str, str], ...],
    stopped: Callable[[], bool] = lambda: False,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Compare files with their known SHA-256; once per process as long as size and modification time stay.

    Args:
        directory: Where the files lie.
        checks: SHA-256 by file name.
        stopped: Asked every few MiB; when true the check ends early, unremembered.
        alive: Called every few MiB.

    Raises:
        SlotUnavailable: ``corrupt_files`` when one differs, ``offline_missing`` when one is gone.
    """
    for name, expected in checks:
        path = directory / name
        try:
            stat = path.stat()
            mark = (stat.st_size, stat.st_mtime_ns)
            with _lock:
                if _verified.get((str(path), expected)) == mark:
                    continue
            actual = _sha256(path, stopped, alive)
        except FileNotFoundError as e:
            raise SlotUnavailable("offline_missing", f"{path} is gone.", "Install or pull the model again.") from e
        if stopped():
            return
        if actual != expected:
            raise SlotUnavailable(
                "corrupt_files",
                f"{path} is not the file it should be: SHA-256 {actual}, expected {expected}.",
                "Install or pull the model again.",
            )
        with _lock:
            _verified[(str(path), expected)] = mark


def _sha256(path: Path, stopped: Callable[[], bool] = lambda: False, alive: Callable[[], None] = lambda: None) -> str:
    hasher = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while (n := file.readinto(buffer)) and not stopped():
            hasher.update(view[:n])
            alive()
    return hasher.hexdigest()


def _known(kept: Path) -> dict[str, list[int | str]]:
    """Read the remembered hashes; a damaged file only costs the reading again."""
    try:
        value = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _keep(kept: Path, name: str, entry: list[int | str]) -> None:
    """Remember a hash; a data directory that cannot be written is reported by whoever needs it."""
    with _lock:
        known = {**_known(kept), name: entry}
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(known), encoding="utf-8")
            part.replace(kept)
        except OSError:
            return


# Prepared -----------------------------------------------------------------------------------------------------------

MARGIN = 64 * 1024 * 1024
"""Bytes that stay free on the disk beside what is made."""
_appearing = threading.Lock()
_VERSIONED = ("torch", "transformers", "sentence-transformers", "safetensors", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one preparation of one model.

    Attributes:
        key: Name of its directory; the vector key where that is known.
        ok: Whether what was made is used from now on.
        reason: Why it was refused, empty when it was not.
        cosine: Of an ONNX form: least cosine between its vectors and torch's, 0 when it never came to that.
        spread: Of an ONNX form: largest difference between a text's vector alone and among others.
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


def verdict(data_dir: Path, key: str, record: str) -> Verdict | None:
    """Return what became of a preparation, None when none was tried (or its record is damaged).

    Args:
        data_dir: The data directory.
        key: Name of its directory.
        record: Name of the file that says it.
    """
    try:
        fields = json.loads((home(data_dir, key) / record).read_text(encoding="utf-8"))
        fields["versions"] = tuple(tuple(v) for v in fields["versions"])
        fields["checks"] = tuple(tuple(c) for c in fields["checks"])
        return Verdict(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def made(data_dir: Path, key: str, record: str) -> tuple[Path, Verdict] | None:
    """Return the directory of what was made and its record, if it was not refused and its files are all there."""
    found, directory = verdict(data_dir, key, record), home(data_dir, key)
    if found and found.ok and all((directory / name).is_file() for name, _ in found.checks):
        return directory, found
    return None


@contextmanager
def workspace(data_dir: Path, key: str) -> Iterator[Path]:
    """An empty directory to make something in; what was not kept of it is deleted at the end of the block."""
    part = data_dir / "models" / f"{key}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def keep(part: Path, data_dir: Path, outcome: Verdict, record: str) -> Verdict:
    """Write the record, and let the directory appear under its name; a refused one holds the record alone."""
    if not outcome.ok:
        shutil.rmtree(part)
        part.mkdir()
    (part / record).write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    for file in part.rglob("*"):
        _flush(file)
    directory = home(data_dir, outcome.key)
    with _appearing:
        shutil.rmtree(directory, ignore_errors=True)
        part.rename(directory)
    return outcome


def delete_parts(data_dir: Path) -> None:
    """Delete what preparations left that did not come to their end; only while no other process runs one."""
    with _appearing:  # else a directory could get its name while it is being deleted
        for part in (data_dir / "models").glob("*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)


def check_space(need: int, data_dir: Path, what: str) -> None:
    """Refuse to begin what cannot fit.

    Raises:
        ModelRefused: ``disk_full``.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if free < need + MARGIN:
        message = f"{what} needs {need + MARGIN >> 20} MiB in {data_dir}, {free >> 20} MiB are free."
        raise ModelRefused("disk_full", message)


def versions() -> tuple[tuple[str, str], ...]:
    """Versions of the packages that take part, for the record."""
    found = [(name, dist.version) for name in _VERSIONED for dist in metadata.distributions(name=name)]
    return tuple(dict(found).items())


def home(data_dir: Path, key: str) -> Path:
    """Return where what was made under a key lies."""
    return data_dir / "models" / key


def prepare_command(name: str) -> str:
    """Return the command line that prepares a model, to be typed."""
    return f'folder-mcp models prepare "{name}"' if " " in name else f"folder-mcp models prepare {name}"


def _flush(file: Path) -> None:
    if file.is_file():
        fd = os.open(file, os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# Safetensors from pickled weights -----------------------------------------------------------------------------------
# Safetensors made of pickled weights, which could run code and are never loaded as a model.
#
# torch's restricted unpickler reads them: it makes tensors and containers, and refuses everything else without
# executing it. The result is a model directory of ours, ``<data_dir>/models/weights_<digest>/``, with the model's
# configuration and ``weights.json``; the user's own files are only read.

WEIGHTS_RECORD = "weights.json"
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
        indexer.slot.failure.ModelRefused: The disk is full; nothing is recorded.
        OSError: The data directory cannot be written; nothing is recorded.
        Exception: What reading the weights raises for want of memory or a package; nothing is recorded.
    """
    key, beside = key_of(directory, files, modules, data_dir), _beside(directory, modules)
    size = sum((directory / name).stat().st_size for name in (*files, *beside))
    check_space(size, data_dir, f"The safetensors form of {directory}")
    with workspace(data_dir, key) as part:
        for name in beside:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, part / name)
        try:
            written = _write(directory, files, part, said)
        except _Refused as refused:
            outcome = Verdict(key, ok=False, reason=str(refused), versions=versions())
            return keep(part, data_dir, outcome, WEIGHTS_RECORD)
        said("computing checksums")
        weights = (*written, *(name for name in beside if name.endswith(".safetensors")))
        checks = tuple((name, digest(part / name)) for name in weights)
        outcome = Verdict(key, ok=True, versions=versions(), checks=checks)
        return keep(part, data_dir, outcome, WEIGHTS_RECORD)


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
