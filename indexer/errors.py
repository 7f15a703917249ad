"""Every exception of the program. A message says what is wrong, where, and what to do next.

FolderMcpError
├── ConfigError          config file, flag or environment variable (exit code 2)
├── FolderError          a folder that cannot be indexed, and why
├── QueryError           a search or read that cannot be answered as asked
│   └── SpelledAlike     a path that could be one of several files
├── ParseFailed          one file that could not be read or parsed (recorded, retried once)
│   └── ParseSkipped     one file that is not indexed on purpose (recorded, not retried)
├── StoreError           the index: damaged, read-only, full, of a newer version
│   └── StoreBusy        another process is its writer
└── SlotUnavailable      the model slot cannot serve in time (code, hint, retry)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class FolderMcpError(Exception):
    """Anything a user can act on; ``str(error)`` can be shown."""


class ConfigError(FolderMcpError):
    """A setting is wrong: names the file, the key and the remedy."""


class FolderError(FolderMcpError):
    """A folder does not exist, is a file, is unreadable, too broad, or overlaps another."""


class QueryError(FolderMcpError):
    """The arguments of a search or read do not make sense; says which and what would."""


class SpelledAlike(QueryError):
    """A path differs from several indexed files in Unicode normal form only; names their addresses.

    Attributes:
        paths: Of the files.
    """

    def __init__(self, path: str, paths: Sequence[str]) -> None:
        self.paths = tuple(sorted(paths))
        addresses = ", ".join(Path(one).as_uri() for one in self.paths[:5])
        super().__init__(
            f"{path} could be one of {len(self.paths)} files that are spelled alike: {addresses}; give one of these"
        )


class ParseFailed(FolderMcpError):
    """A file could not be turned into text. The reason is recorded with the file."""


class ParseSkipped(ParseFailed):
    """A file is not indexed on purpose (binary, too large, encrypted, a secret, ...)."""


class StoreError(FolderMcpError):
    """The index cannot do what was asked; ``code`` is stable, the message is for people.

    Codes: ``damaged``, ``disk_full``, ``read_only``, ``permission``, ``io_error``, ``newer_version``,
    ``unsupported``, ``missing`` (there is none yet, and this process only reads), ``internal``.
    """

    def __init__(self, message: str, code: str = "internal") -> None:
        super().__init__(message)
        self.code = code


class StoreBusy(StoreError):
    """Another process is this data directory's writer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "busy")


class SlotUnavailable(FolderMcpError):
    """The model slot cannot give a lease of the model within the wait asked for.

    Attributes:
        code: One of the codes of ``indexer.slot.failure`` or ``busy``, ``waiting``, ``loading``.
        hint: What the user can do, one sentence.
        retry_after: Seconds after which asking again makes sense, or None.
    """

    def __init__(self, code: str, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.retry_after = retry_after


# Exception groups ---------------------------------------------------------------------------------------------------


@contextmanager
def unwrap_group() -> Iterator[None]:
    """Raise the first error of a task group inside the block itself, so that callers can catch it by its class.

    The group stays its cause.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(error: BaseException) -> BaseException:
    """The first error in a group of any depth; an error that is no group as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
