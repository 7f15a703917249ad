"""The data directory: can it be written, is it local, is there room, does it take hard links."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from indexer.files.mounts import silent_parts, synchronised
from mcp_server.doctor.finding import Finding

MARGIN = 1.2
"""Free space maintenance needs, as a multiple of the tables it rewrites."""
LEAST = 256 << 20
"""Bytes that should be free whatever the size of the index."""
_MOVE = "choose a data directory on a local disk, with --data-dir or data_dir in the configuration"


def data_directory(data_dir: Path, mounts: Sequence[tuple[str, str]] | None) -> Iterator[Finding]:
    """Look at the data directory; it need not exist yet.

    Args:
        data_dir: Absolute.
        mounts: Mount points and their file system types, None when they cannot be told.
    """
    there = _existing(data_dir)
    exists = there == data_dir
    yield _writable(data_dir, there)
    if mounts is not None:
        yield _local(data_dir, mounts)
    synced = synchronised(data_dir)
    if synced:
        detail = f"{data_dir} is in a synchronised folder ({synced}): copies made while it is written are damaged"
        yield Finding("data directory in sync", "warning", detail, _MOVE)
    yield _space(data_dir, there)
    if exists and os.access(data_dir, os.W_OK):
        yield _hard_links(data_dir)


def table_bytes(tables: Path) -> int:
    """Bytes of the largest table below the database directory, which maintenance rewrites; 0 without one."""
    sizes = [_bytes(table) for table in tables.glob("*.lance")] if tables.is_dir() else []
    return max(sizes, default=0)


def _bytes(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _existing(place: Path) -> Path:
    """The directory itself, or the nearest above it that exists."""
    for each in (place, *place.parents):
        if os.path.lexists(each):
            return each
    return Path(os.sep)


def _writable(data_dir: Path, there: Path) -> Finding:
    name = "data directory"
    if not there.is_dir():
        return Finding(name, "failure", f"{there} is not a directory", "move it away, or choose another --data-dir")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = f"{there} cannot be written ({error.strerror})"
        return Finding(name, "failure", reason, "give this user write access to it, or choose another --data-dir")
    if there != data_dir:
        return Finding(name, "ok", f"{data_dir} is not there yet; it can be made in {there}")
    return Finding(name, "ok", f"{data_dir} can be written")


def _local(data_dir: Path, mounts: Sequence[tuple[str, str]]) -> Finding:
    parts = silent_parts(os.path.realpath(data_dir), mounts)
    if parts:
        where, kind = parts[0]
        detail = f"{where} is on a {kind} file system: locks and speed of a local disk are missing"
        return Finding("data directory's disk", "warning", detail, _MOVE)
    return Finding("data directory's disk", "ok", "on a local file system")


def _space(data_dir: Path, there: Path) -> Finding:
    needed = int(MARGIN * table_bytes(data_dir / "index" / "tables"))
    free = shutil.disk_usage(there if there.is_dir() else there.parent).free
    text = f"{free / 1e9:.1f} GB are free"
    if free < needed:
        detail = f"{text}; maintenance needs {MARGIN:g} times the largest table, {needed / 1e9:.1f} GB"
        return Finding("disk space", "failure", detail, "free space on that disk, or move the data directory")
    if free < LEAST:
        return Finding("disk space", "warning", text, "free space on that disk")
    return Finding("disk space", "ok", text)


def _hard_links(data_dir: Path) -> Finding:
    """Make a hard link and take it away again: every commit of the index is one."""
    name = "hard links"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data_dir) as place:
            probe = Path(place) / "probe"
            probe.write_bytes(b"")
            os.link(probe, Path(place) / "link")
    except (OSError, NotImplementedError) as error:
        return Finding(name, "failure", f"{data_dir} takes no hard links ({error})", _MOVE)
    return Finding(name, "ok", "the data directory takes them")
