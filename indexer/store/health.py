"""Health of the index: why it cannot be written, whether it is damaged, what was repaired; errors explained."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio

from indexer.errors import StoreError

log = logging.getLogger(__name__)


_SENTENCES = 10  # sentences about damage that are kept
_SOON_AFTER_REPAIR_S = 600.0  # seconds: damage met again so soon after a repair was not found by it


@dataclass(frozen=True, slots=True)
class StoreProblem:
    """Why the index cannot be written at the moment.

    Attributes:
        code: As of ``StoreError``: ``disk_full``, ``read_only``, ``permission``, ``io_error``, ...
        detail: What happened, one sentence.
        remedy: What to do, one sentence.
        since: When it was met first, seconds since the epoch.
    """

    code: str
    detail: str
    remedy: str
    since: float


class Health:
    """The health of one store; every read and write reports to it.

    Attributes:
        problem: Why the last write failed; None as soon as one succeeds.
        damage: One sentence for each damage found since the store was opened, and what was done about it.
        damage_suspected: Set when an error during work means that a file is damaged: ``Store.repair`` is due.
        damage_returned: Whether such an error came again soon after a repair that found nothing.
        quarantined: Names of the quarantine directories, see ``quarantine_directories``.
        counts_valid: Whether the counts in memory are those of the tables; a failed write may have been committed.
    """

    def __init__(self, root: Path) -> None:
        self.problem: StoreProblem | None = None
        self.damage: deque[str] = deque(maxlen=_SENTENCES)
        self.damage_suspected = anyio.Event()
        self.damage_returned = False
        self.counts_valid = True
        self._repaired = anyio.Event()
        self._repaired_at = -_SOON_AFTER_REPAIR_S
        self.quarantined = tuple(quarantine_directories(root))
        self._root = root
        self._note = root / "rebuilding"
        self._rebuilding = _text(self._note)

    @property
    def rebuilding(self) -> str:
        """Why the text is being read from the folders again, one sentence; empty when it is complete.

        It is kept in a file beside the tables, so that it survives a restart.
        """
        return self._rebuilding

    def record_read_failure(self, error: StoreError) -> None:
        """Record the error of a read or a write; one that means damage sets ``damage_suspected``."""
        cause = error.__cause__
        bad = error.code == "damaged" or (isinstance(cause, library_errors()) and is_damage(cause))
        if bad and not self.damage_suspected.is_set():
            self.damage_returned = time.monotonic() - self._repaired_at < _SOON_AFTER_REPAIR_S
            self.damage_suspected.set()

    def record_write_failure(self, error: StoreError) -> None:
        """Record why a write failed."""
        self.counts_valid = False
        self.record_read_failure(error)
        if error.code in REMEDIES:
            same = self.problem is not None and self.problem.code == error.code
            since = self.problem.since if same and self.problem else time.time()
            self.problem = StoreProblem(error.code, str(error), REMEDIES[error.code], since)

    def record_write_success(self) -> None:
        """Record that a write succeeded, so that ``problem`` is over."""
        self.problem = None

    def record_damage(self, sentence: str) -> None:
        """Record damage in one sentence: what it is and what was done about it."""
        self.damage.append(sentence)
        self.quarantined = tuple(quarantine_directories(self._root))

    def record_repair(self) -> None:
        """Record that all tables have been read and damaged files are in quarantine."""
        self._repaired_at = time.monotonic()
        self.counts_valid = True
        if self.problem is not None and self.problem.code in ("damaged", "internal"):
            self.problem = None
        self.damage_suspected = anyio.Event()
        self._repaired.set()
        self._repaired = anyio.Event()

    async def wait_until_repaired(self) -> None:
        """Wait until no damage is suspected."""
        while self.damage_suspected.is_set():
            await self._repaired.wait()

    def request_rebuild(self, why: str) -> None:
        """Record, on disk too, that the text has to be read from the folders again."""
        self._rebuilding = why
        try:
            self._note.write_text(why, encoding="utf-8")
        except OSError:
            return  # a full or read-only disk: then it is remembered until the process ends

    def rebuild_finished(self) -> None:
        """Record that every folder has been read again."""
        self._rebuilding = ""
        self._note.unlink(missing_ok=True)


def _text(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


# Errors of the library ----------------------------------------------------------------------------------------------
# The storage library raises ``RuntimeError`` for everything, with build paths in the text.

_ERRNO = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EIO: "io_error",
}
_TEXT = (
    ("disk_full", ("no space left", "not enough space on the disk", "disk quota exceeded")),
    ("read_only", ("read-only file system", "(os error 30)")),
    ("permission", ("permission denied", "access is denied", "operation not permitted")),
    ("io_error", ("input/output error", "(os error 5)")),
    (
        "damaged",
        (
            "not found",
            "no such file",
            "corrupt",
            "invalid range",
            "file size is too small",
            "magic",
            "unexpected end of file",
            "failed to fill whole buffer",
            "does not exist",
            "failed to decode",
            "invalid protobuf",
            "range start",
            "out of bounds",
            "malformed",
            "is outside of",
        ),
    ),
)
_ADVICE = {
    "disk_full": "the disk is full; free some space and it goes on by itself",
    "read_only": "the disk is mounted read-only; searches still work",
    "permission": "this user may not write there; give it access to the data directory or choose another one",
    "io_error": "the disk reported an input/output error; look at its health; it is tried again by itself",
    "damaged": "a file of the index is missing or damaged; it is set aside and what was in it is rebuilt",
    "internal": "the index reported an unexpected error; see the log for its text",
}
REMEDIES = {
    "disk_full": "free some space on the disk of the data directory; it goes on by itself",
    "read_only": "mount the disk of the data directory for writing; it goes on by itself",
    "permission": "give this user write access to the data directory; it goes on by itself",
    "io_error": "look at the health of the disk of the data directory; it is tried again by itself",
    "damaged": "nothing: the repair begins by itself",
    "internal": "see the log; it is tried again by itself",
}
"""What a person can do, by the code of the error for which a write fails."""


def library_errors(*also: type[Exception]) -> tuple[type[Exception], ...]:
    """The exceptions of the storage library, and ``also``; call it in the ``except`` clause itself.

    The class of its panics is in no module and comes into being with the first panic.
    """
    panics = (made for made in Exception.__subclasses__() if made.__name__ == "RustPanic")
    return (RuntimeError, ValueError, OSError, *panics, *also)


def code_of(error: BaseException) -> str:
    """The stable code (see ``StoreError``) of an error of the storage library or the operating system."""
    if isinstance(error, StoreError):
        return error.code
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    text = str(error).lower()
    for code, marks in _TEXT:
        if any(mark in text for mark in marks):
            return code
    return "internal"


def is_damage(error: BaseException) -> bool:
    """Whether an error means damaged files, and not a refusal of the system (too many open files, I/O error).

    Only damage justifies moving a table to quarantine.
    """
    code = code_of(error)
    return code == "damaged" or (
        code == "internal" and not isinstance(error, OSError) and "os error" not in str(error)
    )


def to_store_error(error: BaseException, doing: str) -> StoreError:
    """The ``StoreError`` that explains an error; ``doing`` completes "could not ..."."""
    if isinstance(error, StoreError):
        return error
    code = code_of(error)
    if code in ("internal", "damaged"):
        log.warning("index: could not %s: %s", doing, error)
    return StoreError(f"could not {doing}: {_ADVICE[code]}", code)


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what the storage library raises into ``StoreError``; ``doing`` completes "could not ...".

    Raises:
        StoreError: With the code that fits.
    """
    try:
        yield
    except library_errors() as error:
        raise to_store_error(error, doing) from error


# Quarantine ---------------------------------------------------------------------------------------------------------
# Damaged files are not deleted but moved to ``damaged/<time>/``, of which the newest few are kept.

COPIES = 2
"""Quarantine directories kept; older ones are deleted, so that a bad disk cannot fill itself."""


def quarantine(root: Path, path: Path) -> Path:
    """Move a file or a table out of the way; returns where it is now.

    Args:
        root: The data directory, on the same file system, so that nothing is copied.
        path: Below ``root/tables``.

    Raises:
        StoreError: It cannot be moved.
    """
    with store_errors(f"move the damaged {path} aside"):
        directory = root / "damaged" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        directory.mkdir(parents=True, exist_ok=True)
        name = "-".join(path.relative_to(root / "tables").parts)
        target, number = directory / name, 0
        while target.exists():
            number += 1
            target = directory / f"{name}.{number}"
        path.replace(target)
        for old in quarantine_directories(root)[:-COPIES]:
            shutil.rmtree(root / "damaged" / old, ignore_errors=True)
    return target


def quarantine_directories(root: Path) -> list[str]:
    """Names of the directories below ``damaged``, oldest first; each is the time in UTC."""
    try:
        return sorted(each.name for each in (root / "damaged").iterdir())
    except OSError:
        return []
