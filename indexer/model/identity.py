"""What a model *is*: the SHA-256 of the files that make its vectors, computed once and remembered."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from indexer.errors import SlotUnavailable

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
