"""What the database takes on the disk, and whether it is really there: measuring, flushing, room for upkeep."""

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


def tree_bytes(place: Path) -> int:
    """Size of all files below a directory, bytes; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def sync_files(place: Path, since: float) -> None:
    """Flush to the disk what was written after ``since``.

    The storage library never does, so a power cut takes back whatever the system had not yet written by itself.
    """
    for folder, _, names in os.walk(place):
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


def check_space(place: Path, name: str) -> None:
    """Refuse when compaction would not fit: it needs 1.2 times the table before it frees anything."""
    needed, free = int(1.2 * tree_bytes(place / name)), shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"maintenance of the index is passed over: it needs {needed >> 20} MiB of free disk "
            f"and {free >> 20} MiB are left",
            "disk_full",
        )


# Checksums ----------------------------------------------------------------------------------------------------------
# Checksums of the database's files: how a flipped bit is found, which the storage library would not notice.
#
# The library's files never change once they are written, so each is summed once, after the maintenance that made
# it. What was written since is not covered yet; a loss there shows when it is read.

_BLOCK = 1 << 20  # bytes read at once
_HINT = "latest_version_hint.json"  # the one file that is overwritten; the library does without it
_DAILY = 86_400.0  # seconds between two readings of everything


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file was when it was complete.

    Attributes:
        size: Bytes.
        crc: CRC-32 of the content.
        mtime_ns: Of a manifest, 0 of all others: those have names that never come again, but versions are counted,
            and a table that was set back or made anew writes the same numbers once more.
    """

    size: int
    crc: int
    mtime_ns: int


@dataclass(slots=True)
class Checksums:
    """The sums of one database.

    Attributes:
        place: The database directory.
        note: Where the sums are kept; without it, or when it is damaged itself, nothing is known.
        files: Path below ``place`` -> its sum.
        verified: When everything was last read and compared, seconds since the epoch.
        erased: Table -> when nothing that was deleted was left in it the last time, seconds since the epoch.
    """

    place: Path
    note: Path
    files: dict[str, Checksum] = field(default_factory=dict)
    verified: float = 0.0
    erased: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, root: Path) -> Checksums:
        """The sums of a data directory."""
        sums = cls(root / "tables", root / "sums.json")
        try:
            document = json.loads(sums.note.read_text(encoding="utf-8"))
            files = {str(name): Checksum(*map(int, row)) for name, row in document["files"].items()}
            sums.files, sums.verified = files, float(document["verified"])
            sums.erased = {str(table): float(when) for table, when in document["erased"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return sums
        return sums

    def fresh(self) -> list[Path]:
        """The files that have no sum yet. Call it while nobody writes: all of them are complete then."""
        return [path for path in _immutable(self.place) if str(path.relative_to(self.place)) not in self.files]

    def learn(self, fresh: list[Path]) -> None:
        """Sum these files, forget those that have gone, and write it down; reads them whole.

        Raises:
            OSError: The note cannot be written.
        """
        for path in fresh:
            summed = _sum(path)
            if summed is not None:
                self.files[str(path.relative_to(self.place))] = summed
        there = {str(path.relative_to(self.place)) for path in _immutable(self.place)}
        self.files = {name: summed for name, summed in self.files.items() if name in there}
        self._write()

    def bad(self, *, thorough: bool) -> list[Path]:
        """Files that are there and are not what they were.

        Args:
            thorough: Read them; otherwise only their sizes are looked at.

        Raises:
            OSError: The note cannot be written.
        """
        found = self._changed(list(self.files), thorough=thorough)
        if thorough:
            self.verified = time.time()
            self._write()
        return found

    def bad_indexes(self, table: str) -> list[Path]:
        """Files of a table's search indexes that are there and are not what they were; reads them."""
        room = (f"{table}.lance", "_indices")
        return self._changed([name for name in self.files if Path(name).parts[:2] == room], thorough=True)

    def _changed(self, names: list[str], *, thorough: bool) -> list[Path]:
        found = []
        for name in names:
            path, known = self.place / name, self.files[name]
            try:
                status = path.stat()
            except OSError:
                continue  # gone with an old version; a file that is missed shows when it is read
            if known.mtime_ns not in (0, status.st_mtime_ns):
                continue  # another one of the same name
            if status.st_size != known.size or (thorough and _sum(path) != known):
                found.append(path)
        return found

    def stale(self) -> bool:
        """Whether it is time to read everything again."""
        return not 0 <= time.time() - self.verified < _DAILY

    def _write(self) -> None:
        files = {name: [summed.size, summed.crc, summed.mtime_ns] for name, summed in sorted(self.files.items())}
        new = self.note.with_suffix(".new")
        new.write_text(
            json.dumps({"verified": self.verified, "erased": self.erased, "files": files}), encoding="utf-8"
        )
        new.replace(self.note)


def _immutable(place: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names if name != _HINT and not name.startswith("."))


def _sum(path: Path) -> Checksum | None:
    """The sum of a file as it is, None when it has gone or cannot be read."""
    size = crc = 0
    try:
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                crc, size = zlib.crc32(block, crc), size + len(block)
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns if path.suffix == ".manifest" else 0
    except OSError:
        return None
    return Checksum(size, crc, mtime_ns)
