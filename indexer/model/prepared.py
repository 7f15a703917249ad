"""What was made of models on this machine, and kept: ``<data_dir>/models/<key>/`` with a record of how it went.

A refusal is recorded too, with its reason, so that it is shown and nothing is made twice. A directory appears under
its name in one step, when it has been verified: until then it is called ``<key>.part``.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from indexer.model.failure import ModelRefused

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
