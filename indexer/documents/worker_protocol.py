"""What the parser pool and its workers say to each other: length-prefixed JSON, nothing that could run code.

A frame is four bytes of length, big-endian, then that many bytes of UTF-8 JSON. Undecodable bytes in paths travel as
lone surrogates. A file that is cut where it is parsed is answered in several frames, none much larger than
``CHARS``, all but the last with ``more``: the length of its text, then its chunks column by column, then its row.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast

from indexer.documents.parse import LibraryMissing, Parsed, ParseLimits
from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.chunk import TokenCounter, chunk, redacted, surroundings
from indexer.text.language import detect
from indexer.text.tokens import tokens
from indexer.types import Chunk, Document, Locator, Unit, UnitKind

HEADER = struct.Struct(">I")
"""The length before each frame."""
MOST = 512 << 20
"""Bytes of a frame that anyone accepts: five times the longest text allowed, and no more."""

CHARS = 500_000
"""Characters of text in a frame of chunks: decoding one holds the interpreter for some milliseconds."""

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


class NotCut(Exception):
    """A worker cannot cut files: it lacks the tokenizer, or the library that reads it; says why."""


def request(path: str, limits: ParseLimits, order: CutOrder | None = None) -> Message:
    """Ask for one file, to be cut too when there is an ``order``."""
    return {"path": path, "limits": asdict(limits), "cut": asdict(order) if order else None}


def requested(message: Message) -> tuple[str, ParseLimits, CutOrder | None]:
    """The file, the limits and perhaps the order of a request."""
    order = CutOrder(**message["cut"]) if message.get("cut") else None
    return str(message["path"]), ParseLimits(**message["limits"]), order


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


def not_cut(reason: str) -> Message:
    """A file that this worker could only have parsed as a message."""
    return {"outcome": "not cut", "reason": reason}


def cutting(parsed: Parsed) -> Message:
    """Parsed, not cut yet: how much there is to cut."""
    return {"characters": sum(len(unit.text) for unit in parsed.document.units), "more": True}


def prepared(parsed: Parsed, made: Ready | None) -> Iterator[Message]:
    """A file cut (or the same as before, None) as messages."""
    chunks = made.chunks if made else ()
    first = size = 0
    for at, each in enumerate(chunks):
        size += len(each.text)
        if size >= CHARS or at + 1 == len(chunks):
            words, reach = (made.tokens[first : at + 1], made.reach[first : at + 1]) if made else ((), ())
            yield _columns(chunks[first : at + 1], words, reach)
            first, size = at + 1, 0
    yield {
        "outcome": "prepared" if made else "same",
        "sha256": parsed.sha256,
        "size": parsed.size,
        "mtime_ns": parsed.mtime_ns,
        "parser": parsed.document.parser,
        "language": made.language if made else "",
        "dropped": made.dropped if made else 0,
    }


def prepared_from(messages: Sequence[Message]) -> Prepared:
    """The file in the messages of an answer.

    Raises:
        NotCut: The worker cannot cut.
        LibraryMissing, ParseSkipped, ParseFailed: As ``answered``.
    """
    last = messages[-1]
    if last.get("outcome") == "not cut":
        raise NotCut(str(last["reason"]))
    if last.get("outcome") not in ("prepared", "same"):
        answered(last)
        raise ParseFailed("the parser gave no answer")
    made = None
    if last["outcome"] == "prepared":
        found = [row for message in messages if "texts" in message for row in _rows(message)]
        words = tuple(token for message in messages if "texts" in message for token in message["tokens"])
        reach = tuple(count for message in messages if "texts" in message for count in message["reach"])
        made = Ready(tuple(found), words, last["language"], last["dropped"], reach)
    return Prepared(last["parser"], last["sha256"], last["size"], last["mtime_ns"], made)


def _columns(chunks: Sequence[Chunk], tokens: Sequence[str], reach: Sequence[int]) -> Message:
    places = [chunk.locator for chunk in chunks]
    return {
        "ordinals": [chunk.ordinal for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "headings": [chunk.heading for chunk in chunks],
        "kinds": [place.kind for place in places],
        "units": [place.unit for place in places],
        "starts": [place.start for place in places],
        "ends": [place.end for place in places],
        "tokens": list(tokens),
        "reach": list(reach),
        "more": True,
    }


def _rows(message: Message) -> Iterator[Chunk]:
    places = map(Locator, message["kinds"], message["units"], message["starts"], message["ends"])
    return map(Chunk, message["ordinals"], message["texts"], message["headings"], places)


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


# Prepared documents -------------------------------------------------------------------------------------------------
# A document made ready for the index: its chunks, the words the keyword index sees, its language. Pure CPU work.

_SHOWN = 8
"""Chunks whose text tells the language of a document."""


@dataclass(frozen=True, slots=True)
class CutOrder:
    """How a file is to be cut, as far as a process without a model needs to be told.

    Attributes:
        tokenizer: Path of the tokenizer's file; empty when there is none, and the file is cut where it was asked for.
        limit: Tokens of a passage that the model sees.
        stamp: What the tokenizer's stamp must be: the file may have been replaced since.
        name: The file's path below its root.
        unless: A file whose content has this SHA-256 is not cut; empty for none.
    """

    tokenizer: str
    limit: int
    stamp: str
    name: str
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """A document cut.

    Attributes:
        chunks: Its chunks in order, those with secrets left out.
        tokens: For each chunk, its search tokens separated by single spaces.
        language: ISO 639-1 code of its text, empty when it shows none.
        dropped: How many chunks held secrets.
        reach: As ``FileWrite.reach``.
    """

    chunks: tuple[Chunk, ...]
    tokens: tuple[str, ...]
    language: str
    dropped: int
    reach: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file read and cut, and the very version of it that was.

    Attributes:
        parser: Name and version of what read it.
        sha256: Hex digest of its bytes.
        size: Their number.
        mtime_ns: Modification time in nanoseconds.
        ready: What it holds; None when the content is what ``CutOrder.unless`` says.
    """

    parser: str
    sha256: str
    size: int
    mtime_ns: int
    ready: Ready | None


def ready(document: Document, counter: TokenCounter, limit: int, name: str) -> Ready:
    """Cut a document into chunks of at most ``limit`` tokens, with the search tokens of each."""
    chunks, dropped = redacted(chunk(document, counter, limit))
    language = detect("\n".join(c.text for c in chunks[:_SHOWN]))
    if not language:  # code, tables, names: no paragraphs
        return Ready(chunks, tuple(tokens(c.text, c.heading, name, "") for c in chunks), "", dropped)
    around = surroundings(document, chunks)
    words = tuple(tokens(c.text, c.heading, name, language, a.texts) for c, a in zip(chunks, around, strict=True))
    return Ready(chunks, words, language, dropped, tuple(a.reach for a in around))
