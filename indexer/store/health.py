"""How the index is: what keeps it from being written, whether it is in doubt, what was mended, what is missing."""

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


_TOLD = 10  # sentences about damage that are kept
_AGAIN = 600.0  # seconds: damage met again so soon after a repair was not found by it


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
    """The state of one store; every read and write reports to it.

    Attributes:
        trouble: Why the last write failed; None as soon as one succeeds.
        damage: What was found broken since the store was opened and what became of it, sentences for people.
        doubted: Set when something met in the middle of work says that a file is bad: somebody should ``mend``.
        stubborn: Whether damage was met again soon after a repair that found nothing.
        aside: When something was set aside that is still kept, see ``aside.kept``.
        counted: Whether the counts in memory are those of the tables; a failed write may have been made all the same.
    """

    def __init__(self, root: Path) -> None:
        self.trouble: StoreProblem | None = None
        self.damage: deque[str] = deque(maxlen=_TOLD)
        self.doubted = anyio.Event()
        self.stubborn = False
        self.counted = True
        self._repaired = anyio.Event()
        self._mended = -_AGAIN
        self.aside = tuple(kept(root))
        self._root = root
        self._note = root / "rebuilding"
        self._rebuilding = _text(self._note)

    @property
    def rebuilding(self) -> str:
        """Why the text is being read from the folders anew, one sentence; empty when it is complete.

        It stands in a file beside the tables, so that a restart in the middle does not forget it.
        """
        return self._rebuilding

    def met(self, error: StoreError) -> None:
        """Note what a read or a write failed of."""
        cause = error.__cause__
        bad = error.code == "damaged" or (isinstance(cause, raised()) and mendable(cause))
        if bad and not self.doubted.is_set():
            self.stubborn = time.monotonic() - self._mended < _AGAIN
            self.doubted.set()

    def refused(self, error: StoreError) -> None:
        """Note a write that failed."""
        self.counted = False
        self.met(error)
        if error.code in REMEDIES:
            same = self.trouble is not None and self.trouble.code == error.code
            since = self.trouble.since if same and self.trouble else time.time()
            self.trouble = StoreProblem(error.code, str(error), REMEDIES[error.code], since)

    def wrote(self) -> None:
        """Note a write that succeeded: whatever was in the way has gone."""
        self.trouble = None

    def broke(self, sentence: str) -> None:
        """Note what was found broken and what became of it."""
        self.damage.append(sentence)
        self.aside = tuple(kept(self._root))

    def mended(self) -> None:
        """Note that the tables have been looked through and what was bad is no longer in the way."""
        self._mended = time.monotonic()
        self.counted = True
        if self.trouble is not None and self.trouble.code in ("damaged", "internal"):
            self.trouble = None
        self.doubted = anyio.Event()
        self._repaired.set()
        self._repaired = anyio.Event()

    async def repaired(self) -> None:
        """Wait until nothing is in doubt any more."""
        while self.doubted.is_set():
            await self._repaired.wait()

    def rebuild(self, why: str) -> None:
        """Note that the text has to be read from the folders again."""
        self._rebuilding = why
        try:
            self._note.write_text(why, encoding="utf-8")
        except OSError:
            return  # a full or read-only disk: then it is known until the process ends

    def rebuilt(self) -> None:
        """Note that every folder has been read again."""
        self._rebuilding = ""
        self._note.unlink(missing_ok=True)


def _text(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


# Errors of the library ----------------------------------------------------------------------------------------------
# What the storage library's errors mean: it raises ``RuntimeError`` for everything, with build paths in the text.

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
"""What a person can do about each reason for which a write fails."""


def raised(*also: type[Exception]) -> tuple[type[Exception], ...]:
    """What the storage library raises, and ``also``; to be asked in an ``except``.

    Its panics have a class of their own that stands in no module and is made at the first of them.
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


def mendable(error: BaseException) -> bool:
    """Whether an error means that the files are bad, not that the system refused (too many open files, I/O error).

    Only the former justifies setting a table aside.
    """
    code = code_of(error)
    return code == "damaged" or (
        code == "internal" and not isinstance(error, OSError) and "os error" not in str(error)
    )


def explain(error: BaseException, doing: str) -> StoreError:
    """A ``StoreError`` for people; the original stays its cause."""
    if isinstance(error, StoreError):
        return error
    code = code_of(error)
    if code in ("internal", "damaged"):
        log.warning("index: could not %s: %s", doing, error)
    return StoreError(f"could not {doing}: {_ADVICE[code]}", code)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the storage library raises into ``StoreError``; ``doing`` completes "could not ...".

    Raises:
        StoreError: With the code that fits.
    """
    try:
        yield
    except raised() as error:
        raise explain(error, doing) from error


# Quarantine ---------------------------------------------------------------------------------------------------------
# What is broken is set aside, not deleted: moved to ``damaged/<time>/``, of which the newest few stay.

COPIES = 2
"""Times of which what was set aside is kept; older ones are deleted, so that a bad disk cannot fill itself."""


def quarantine(root: Path, path: Path) -> Path:
    """Move a file or a table out of the way; returns where it is now.

    Args:
        root: The data directory, on the same file system, so that nothing is copied.
        path: Below ``root/tables``.

    Raises:
        StoreError: It cannot be moved.
    """
    with explained(f"move the damaged {path} aside"):
        place = root / "damaged" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        place.mkdir(parents=True, exist_ok=True)
        name = "-".join(path.relative_to(root / "tables").parts)
        target, number = place / name, 0
        while target.exists():
            number += 1
            target = place / f"{name}.{number}"
        path.replace(target)
        for old in kept(root)[:-COPIES]:
            shutil.rmtree(root / "damaged" / old, ignore_errors=True)
    return target


def kept(root: Path) -> list[str]:
    """Names of the directories below ``damaged``, oldest first; each is the time in UTC."""
    try:
        return sorted(each.name for each in (root / "damaged").iterdir())
    except OSError:
        return []
