"""The files of the database: their size, flushing to disk, free space for compaction, checksums."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from indexer.errors import StoreError


def tree_bytes(directory: Path) -> int:
    """Size of all files below a directory, bytes; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def sync_files(directory: Path, since: float) -> None:
    """Flush to the disk what was written after ``since``.

    The storage library never flushes, so a power cut loses whatever the system had not yet written by itself.
    """
    for folder, _, names in os.walk(directory):
        for path in (*(Path(folder) / name for name in names), Path(folder)):
            with contextlib.suppress(OSError):  # gone meanwhile, or a directory on Windows
                if path.stat().st_mtime >= since - 1:
                    _flush(path)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_space(directory: Path, name: str) -> None:
    """Raise when compaction would not fit: it needs 1.2 times the size of the table before it frees anything."""
    needed, free = int(1.2 * tree_bytes(directory / name)), shutil.disk_usage(directory).free
    if free < needed:
        raise StoreError(
            f"maintenance of the index is passed over: it needs {needed >> 20} MiB of free disk "
            f"and {free >> 20} MiB are left",
            "disk_full",
        )


# Checksums ----------------------------------------------------------------------------------------------------------
# They find a flipped bit, which the storage library would not notice. The library's files never change once they are
# written, so each checksum is computed once, after the maintenance that made the file. Files written since have none
# yet; their damage shows when they are read.

_BLOCK = 1 << 20  # bytes read at once
_VERSION_HINT = "latest_version_hint.json"  # the one file that is overwritten; the library does without it
_VERIFY_EVERY_S = 86_400.0  # seconds between two full verifications


@dataclass(frozen=True, slots=True)
class Checksum:
    """Size and checksum of a complete file.

    Attributes:
        size: Bytes.
        crc: CRC-32 of the content.
        mtime_ns: Of a manifest; 0 for other files, whose names are unique. The name of a manifest is a version number,
            which a table that was rolled back or recreated uses again.
    """

    size: int
    crc: int
    mtime_ns: int


@dataclass(slots=True)
class Checksums:
    """The checksums of the files of one database.

    Attributes:
        directory: The database directory.
        path: The file that keeps the checksums; if it is missing or damaged, none is known.
        files: Path below ``directory`` -> its checksum.
        verified: When all files were last read and compared, seconds since the epoch.
        erased: Table -> when it last had no deleted rows on the disk, seconds since the epoch.
    """

    directory: Path
    path: Path
    files: dict[str, Checksum] = field(default_factory=dict)
    verified: float = 0.0
    erased: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, root: Path) -> Checksums:
        """Read the checksums of a data directory."""
        checksums = cls(root / "tables", root / "sums.json")
        try:
            document = json.loads(checksums.path.read_text(encoding="utf-8"))
            files = {str(name): Checksum(*map(int, row)) for name, row in document["files"].items()}
            checksums.files, checksums.verified = files, float(document["verified"])
            checksums.erased = {str(table): float(when) for table, when in document["erased"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return checksums
        return checksums

    def unknown_files(self) -> list[Path]:
        """The files without a checksum. Call it while nothing writes: all of them are complete then."""
        return [
            path
            for path in _immutable_files(self.directory)
            if str(path.relative_to(self.directory)) not in self.files
        ]

    def update(self, unknown_files: list[Path]) -> None:
        """Compute the checksums of these files, drop those of deleted ones, and save; reads the files whole.

        Raises:
            OSError: The checksums cannot be saved.
        """
        for path in unknown_files:
            checksum = _checksum_of(path)
            if checksum is not None:
                self.files[str(path.relative_to(self.directory))] = checksum
        existing = {str(path.relative_to(self.directory)) for path in _immutable_files(self.directory)}
        self.files = {name: checksum for name, checksum in self.files.items() if name in existing}
        self._write()

    def changed_files(self, *, thorough: bool) -> list[Path]:
        """The existing files that differ from their checksum.

        Args:
            thorough: Read them; otherwise compare sizes only.

        Raises:
            OSError: The checksums cannot be saved.
        """
        found = self._changed(list(self.files), thorough=thorough)
        if thorough:
            self.verified = time.time()
            self._write()
        return found

    def changed_index_files(self, table: str) -> list[Path]:
        """The existing files of a table's search indexes that differ from their checksum; reads them."""
        folder = (f"{table}.lance", "_indices")
        return self._changed([name for name in self.files if Path(name).parts[:2] == folder], thorough=True)

    def _changed(self, names: list[str], *, thorough: bool) -> list[Path]:
        found = []
        for name in names:
            path, known = self.directory / name, self.files[name]
            try:
                status = path.stat()
            except OSError:
                continue  # deleted with an old version; a file that is still needed is noticed when it is read
            if known.mtime_ns not in (0, status.st_mtime_ns):
                continue  # another file of the same name
            if status.st_size != known.size or (thorough and _checksum_of(path) != known):
                found.append(path)
        return found

    def verification_due(self) -> bool:
        """Whether it is time for a full verification."""
        return not 0 <= time.time() - self.verified < _VERIFY_EVERY_S

    def _write(self) -> None:
        files = {name: [each.size, each.crc, each.mtime_ns] for name, each in sorted(self.files.items())}
        new = self.path.with_suffix(".new")
        new.write_text(
            json.dumps({"verified": self.verified, "erased": self.erased, "files": files}), encoding="utf-8"
        )
        new.replace(self.path)


def _immutable_files(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        yield from (Path(folder, name) for name in names if name != _VERSION_HINT and not name.startswith("."))


def _checksum_of(path: Path) -> Checksum | None:
    """The checksum of a file, None when it does not exist or cannot be read."""
    size = crc = 0
    try:
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                crc, size = zlib.crc32(block, crc), size + len(block)
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns if path.suffix == ".manifest" else 0
    except OSError:
        return None
    return Checksum(size, crc, mtime_ns)
