"""What the command line prints: results to stdout, everything else to stderr, without control characters."""

# ruff: noqa: T201 - the one place that prints

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp_server.protocol.untrusted import clean, sentence

if TYPE_CHECKING:
    from pydantic import BaseModel


def say(text: str = "") -> None:
    """Write a result for people to stdout, without control characters of quoted file names and text."""
    print(clean(text))


def json_document(result: BaseModel) -> None:
    """Write a result as one JSON document to stdout."""
    print(result.model_dump_json(indent=2))


def json_line(result: BaseModel) -> None:
    """Write a result as one line of JSON to stdout, and flush it."""
    print(result.model_dump_json(), flush=True)


def json_object(line: Mapping[str, Any]) -> None:
    """Write an object as one line of JSON to stdout, in ASCII: names may hold bytes that are not text."""
    print(json.dumps(line, separators=(",", ":")))


def note(text: str) -> None:
    """Write a note to stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Write an error to stderr, in one line, its secrets blanked."""
    print("folder-mcp: " + sentence(text), file=sys.stderr, flush=True)
