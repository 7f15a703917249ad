"""What the storage library's errors mean: it raises ``RuntimeError`` for everything, with build paths in the text."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator

from indexer.errors import StoreError

log = logging.getLogger(__name__)

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
