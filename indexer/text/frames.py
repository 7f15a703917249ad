"""What the parser pool and its workers say to each other: length-prefixed JSON, nothing that could run code.

A frame is four bytes of length, big-endian, then that many bytes of UTF-8 JSON. Undecodable bytes in paths travel as
lone surrogates.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO, cast

from indexer.errors import ParseFailed, ParseSkipped
from indexer.locator import UnitKind
from indexer.text.parse import LibraryMissing, Parsed, ParseLimits
from indexer.types import Document, Unit

HEADER = struct.Struct(">I")
"""The length before each frame."""
MOST = 512 << 20
"""Bytes of a frame that anyone accepts: five times the longest text allowed, and no more."""

Message = dict[str, Any]
"""A JSON object; its keys are read and written in this module only."""


def encode(message: Message) -> bytes:
    """A message as one frame."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """The message in a frame's body.

    Raises:
        ValueError: The bytes are not a JSON object.
    """
    message = json.loads(body.decode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise ValueError("a frame holds an object")
    return message


def read(stream: BinaryIO) -> Message | None:
    """The next message of a blocking stream, None at its end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = stream.read(length)
    return decode(body) if len(body) == length else None


def request(path: str, limits: ParseLimits) -> Message:
    """Ask for one file."""
    return {"path": path, "limits": asdict(limits)}


def requested(message: Message) -> tuple[str, ParseLimits]:
    """The file and the limits of a request."""
    return str(message["path"]), ParseLimits(**message["limits"])


def answer(parsed: Parsed) -> Message:
    """A parsed file as a message."""
    document = parsed.document
    return {
        "outcome": "indexed",
        "sha256": parsed.sha256,
        "size": parsed.size,
        "mtime_ns": parsed.mtime_ns,
        "units": [[unit.kind, unit.name, unit.text, unit.heading] for unit in document.units],
        "syntax": document.syntax,
        "parser": document.parser,
        "title": document.title,
    }


def refusal(error: ParseFailed) -> Message:
    """A file that gave no text as a message."""
    outcome = "lacking" if isinstance(error, LibraryMissing) else "skipped"
    return {"outcome": outcome if isinstance(error, ParseSkipped) else "failed", "reason": str(error)}


def answered(message: Message) -> Parsed:
    """The document in an answer.

    Raises:
        LibraryMissing: The worker has no package for the file.
        ParseSkipped: The worker refused the file.
        ParseFailed: The worker could not read it.
    """
    if message.get("outcome") == "lacking":
        raise LibraryMissing(str(message["reason"]))
    if message.get("outcome") == "skipped":
        raise ParseSkipped(str(message["reason"]))
    if message.get("outcome") != "indexed":
        raise ParseFailed(str(message.get("reason", "the parser gave no answer")))
    units = tuple(Unit(cast("UnitKind", kind), name, text, heading) for kind, name, text, heading in message["units"])
    document = Document(units, message["syntax"], message["parser"], message["title"])
    return Parsed(document, message["sha256"], message["size"], message["mtime_ns"])
