"""What can be wrong with a client's configuration file."""

from __future__ import annotations

from indexer.errors import FolderMcpError


class ClientError(FolderMcpError):
    """A client's configuration cannot be changed as asked. Nothing was written."""


class Unparsable(ClientError):
    """The file is not what its client would read.

    Attributes:
        line: 1-based.
        column: 1-based, in characters.
        what: What was met there, without the place.
    """

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.what = what
        self.line = line
        self.column = column


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, 1-based, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
