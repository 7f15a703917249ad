"""What the command line writes: results to stdout, everything else to stderr, nothing that drives a terminal."""

# ruff: noqa: T201 - the one place that prints

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mcp_server.protocol.untrusted import clean

if TYPE_CHECKING:
    from pydantic import BaseModel


def say(text: str = "") -> None:
    """Write a result for people to stdout; file names and file text in it are made harmless."""
    print(clean(text))


def document(result: BaseModel) -> None:
    """Write a result as one JSON document to stdout."""
    print(result.model_dump_json(indent=2))


def line(result: BaseModel) -> None:
    """Write a result as one line of JSON to stdout, at once."""
    print(result.model_dump_json(), flush=True)


def note(text: str) -> None:
    """Write a remark to stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Write an error to stderr, in one line."""
    print("folder-mcp: " + plain(text), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Return text that may quote a file name as one harmless line."""
    return " ".join(clean(text).split())
