"""Prepared models: what was made of a model's files and kept, in ``<data_dir>/models/<key>/``, and file digests.

Each directory has a record of how the preparation went. A refusal is recorded too, with its reason, so that it is
shown and nothing is made twice. A directory gets its name in one step, when it has been verified: until then it is
called ``<key>.part``. ``convert`` makes what is kept here; this module loads no library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from indexer.errors import SlotUnavailable
from indexer.slot.embedder import ModelSpec
from indexer.slot.failure import ModelRefused

EXPORT_RECORD = "export.json"
"""Record of an ONNX form; its key is the model's vector key."""
WEIGHTS_RECORD = "weights.json"
"""Record of safetensors made of pickled weights; for the key see ``conversion_key``."""
MARGIN = 64 * 1024 * 1024
"""Bytes that stay free on the disk after a preparation."""
_rename_lock = threading.Lock()
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


def export_due(spec: ModelSpec, data_dir: Path) -> bool:
    """Whether an ONNX form of ``spec`` should be made: torch serves it on the CPU, and none was refused.

    Rerankers have none: the exporter's graph ends in a sentence's vector.
    """
    torch_on_cpu = (spec.kind, spec.runtime, spec.device) == ("embedder", "torch", "cpu")
    return torch_on_cpu and read_verdict(data_dir, spec.key, EXPORT_RECORD) is None


def read_verdict(data_dir: Path, key: str, record: str) -> Verdict | None:
    """Return the outcome of a preparation, None when none was tried (or its record is damaged).

    Args:
        data_dir: The data directory.
        key: Name of its directory.
        record: ``EXPORT_RECORD`` or ``WEIGHTS_RECORD``.
    """
    try:
        fields = json.loads((prepared_directory(data_dir, key) / record).read_text(encoding="utf-8"))
        fields["versions"] = tuple(tuple(v) for v in fields["versions"])
        fields["checks"] = tuple(tuple(c) for c in fields["checks"])
        return Verdict(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find_prepared(data_dir: Path, key: str, record: str) -> tuple[Path, Verdict] | None:
    """Return the directory and the record of a preparation that was not refused and whose files are all there."""
    found, directory = read_verdict(data_dir, key, record), prepared_directory(data_dir, key)
    if found and found.ok and all((directory / name).is_file() for name, _ in found.checks):
        return directory, found
    return None


@contextmanager
def workspace(data_dir: Path, key: str) -> Iterator[Path]:
    """An empty directory to work in; it is deleted at the end of the block unless it was published."""
    part = data_dir / "models" / f"{key}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def publish(part: Path, data_dir: Path, outcome: Verdict, record: str) -> Verdict:
    """Write the record and give the directory its name; that of a refused preparation holds the record alone."""
    if not outcome.ok:
        shutil.rmtree(part)
        part.mkdir()
    (part / record).write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    for file in part.rglob("*"):
        _sync(file)
    directory = prepared_directory(data_dir, outcome.key)
    with _rename_lock:
        shutil.rmtree(directory, ignore_errors=True)
        part.rename(directory)
    return outcome


def delete_parts(data_dir: Path) -> None:
    """Delete what interrupted preparations left; only while no other process runs one."""
    with _rename_lock:  # else a directory could be published while it is being deleted
        for part in (data_dir / "models").glob("*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)


def check_space(need: int, data_dir: Path, what: str) -> None:
    """Check that the disk has room before anything is written.

    Raises:
        ModelRefused: ``disk_full``.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if free < need + MARGIN:
        message = f"{what} needs {need + MARGIN >> 20} MiB in {data_dir}, {free >> 20} MiB are free."
        raise ModelRefused("disk_full", message)


def versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of the packages that take part, for the record."""
    found = [(name, dist.version) for name in _VERSIONED for dist in metadata.distributions(name=name)]
    return tuple(dict(found).items())


def prepared_directory(data_dir: Path, key: str) -> Path:
    """Return the directory of a key."""
    return data_dir / "models" / key


def prepare_command(name: str) -> str:
    """Return the command line that prepares a model."""
    return f'folder-mcp models prepare "{name}"' if " " in name else f"folder-mcp models prepare {name}"


def _sync(file: Path) -> None:
    if file.is_file():
        fd = os.open(file, os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# The key of a conversion ---------------------------------------------------------------------------------------------

_CONFIGURATION = (".json", ".txt", ".model", ".py", ".md")
_CONFIGURATION_LIMIT = 64 * 1024 * 1024


def conversion_key(directory: Path, files: Iterable[str], modules: Iterable[str], data_dir: Path) -> str:
    """Return the key under which safetensors made of pickled ``files`` are kept; any change of the model changes it.

    Args:
        directory: The model's directory.
        files: Its pickled weights, relative to it.
        modules: Directories of its modules, relative to it.
        data_dir: Where digests of large files are remembered.
    """
    names = [*files, *companion_files(directory, modules)]
    made_of = {name: digest(directory / name, data_dir) for name in names}
    return f"weights_{hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]}"


def companion_files(directory: Path, modules: Iterable[str]) -> tuple[str, ...]:
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


# Digests ------------------------------------------------------------------------------------------------------------
# The SHA-256 of the files that determine a model's vectors, computed once and remembered.

BLOCK = 4 * 1024 * 1024
"""Bytes read at once; between blocks a load can be stopped."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_verified: dict[tuple[str, str], tuple[int, int]] = {}
_lock = threading.Lock()


def digest(path: Path, data_dir: Path | None = None) -> str:
    """Return the SHA-256 of a file, hex.

    The whole file is hashed, not a sample: fine-tuned variants of one model share headers, sizes and large parts of
    their weights. It is read once: the hub's cache names its large files by their SHA-256, and other files' hashes are
    kept in ``<data_dir>/models/digests.json`` with size and modification time (1 GB takes about a second).
    """
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name) and blob.parent.name == "blobs":
        return blob.name
    stat = blob.stat()
    mark = [stat.st_size, stat.st_mtime_ns]
    kept = data_dir / "models" / "digests.json" if data_dir else None
    known = _remembered_digests(kept).get(str(blob)) if kept else None
    if known and known[:2] == mark:
        return str(known[2])
    value = _sha256(blob)
    if kept and stat.st_size > BLOCK:
        _remember_digest(kept, str(blob), [*mark, value])
    return value


def verify(
    directory: Path,
    checks: tuple[tuple[str, str], ...],
    stopped: Callable[[], bool] = lambda: False,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Compare files with their known SHA-256; again in one process only when size or modification time has changed.

    Args:
        directory: Where the files are.
        checks: SHA-256 by file name.
        stopped: Called every few MiB; when true the check ends early and is not remembered.
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


def _remembered_digests(kept: Path) -> dict[str, list[int | str]]:
    """Return the remembered hashes; when their file is damaged they are computed again."""
    try:
        value = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remember_digest(kept: Path, name: str, entry: list[int | str]) -> None:
    """Remember a hash; a data directory that cannot be written is reported where it is needed."""
    with _lock:
        known = {**_remembered_digests(kept), name: entry}
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(known), encoding="utf-8")
            part.replace(kept)
        except OSError:
            return
