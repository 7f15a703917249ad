"""Messages between the pool and its workers: length-prefixed JSON, nothing that could run code.

A frame is four bytes of length, big-endian, then that many bytes of UTF-8 JSON. Undecodable bytes in paths are lone
surrogates. The open file of a request comes beside it. The answer for a file that is chunked too has several frames,
none much larger than ``CHARS``, all but the last with ``more``: the length of its text, then its chunks column by
column, then its row.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from typing import Any, BinaryIO, cast

from indexer.documents.parse import LibraryMissing, Parsed, ParseLimits
from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.chunk import TokenCounter, chunk, surroundings
from indexer.text.language import detect
from indexer.text.secrets import blank
from indexer.text.tokens import tokens
from indexer.types import Chunk, Document, Locator, Unit, UnitKind

HEADER = struct.Struct(">I")
"""The length before each frame."""
MAX_FRAME = 512 << 20
"""Most bytes of a frame that are accepted: five times the longest text allowed."""

CHARS = 500_000
"""Characters of text in a frame of chunks: decoding one blocks the interpreter for some milliseconds."""

Message = dict[str, Any]
"""A JSON object; its keys are read and written in this module only."""


# Prepared documents -------------------------------------------------------------------------------------------------
# A document prepared for the index: its chunks, their search tokens, its language. Pure CPU work.

_LANGUAGE_CHUNKS = 8
"""Chunks from whose text the language of a document is detected."""


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """How to chunk a file, in a process without the model.

    Attributes:
        tokenizer: Path of the tokenizer's file; empty when there is none, and the caller chunks the file itself.
        limit: Tokens of a passage that the model sees.
        stamp: The expected stamp of the tokenizer, whose file may have been replaced.
        name: The file's path below its root.
        known_sha256: A file whose content has this SHA-256 is not chunked; empty for none.
    """

    tokenizer: str
    limit: int
    stamp: str
    name: str
    known_sha256: str = ""


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """The chunks of a document.

    Attributes:
        chunks: Its chunks in order.
        tokens: For each chunk, its search tokens separated by single spaces.
        language: ISO 639-1 code of its text, empty when it shows none.
        secrets: The kind of each secret that was blanked in it.
        reach: As ``FileWrite.reach``.
    """

    chunks: tuple[Chunk, ...]
    tokens: tuple[str, ...]
    language: str
    secrets: tuple[str, ...] = ()
    reach: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """A file that was read and chunked, and the version of it that was read.

    Attributes:
        parser: Name and version of what read it.
        sha256: Hex digest of its bytes.
        size: Their number.
        mtime_ns: Modification time in nanoseconds.
        inode: As ``signed_inode``.
        chunked: Its chunks; None when the content is the one of ``ChunkRequest.known_sha256``.
        again: Whether another scan is to read it once more, because it could not be cut as it should be now.
    """

    parser: str
    sha256: str
    size: int
    mtime_ns: int
    inode: int
    chunked: ChunkedDocument | None
    again: bool = False


def chunk_document(document: Document, counter: TokenCounter, limit: int, name: str) -> ChunkedDocument:
    """Cut a document into chunks of at most ``limit`` tokens, with the search tokens of each."""
    chunks, secrets = chunk(document, counter, limit), document.secrets
    language = detect("\n".join(c.text for c in chunks[:_LANGUAGE_CHUNKS]))
    if not language:  # code, tables, names: no paragraphs
        return ChunkedDocument(chunks, tuple(tokens(c.text, c.heading, name, "") for c in chunks), "", secrets)
    around = surroundings(document, chunks)
    words = tuple(tokens(c.text, c.heading, name, language, a.texts) for c, a in zip(chunks, around, strict=True))
    return ChunkedDocument(chunks, words, language, secrets, tuple(a.reach for a in around))


# Descriptors --------------------------------------------------------------------------------------------------------
# What a request is about goes over a socket of its own (SCM_RIGHTS): the open file, and the tokenizer's where it is to
# be chunked. A worker can open neither itself.

CAN_PASS_DESCRIPTORS = hasattr(socket, "send_fds")
"""Whether this system hands open files to another process."""
_MARK = b"f"
"""The byte that a descriptor travels with."""


_MOST_DESCRIPTORS = 2


def send_descriptors(channel: socket.socket, files: Sequence[FileIO]) -> None:
    """Hand copies of the open files of one request over; the caller keeps its own.

    Never waits: those of one request are on the way at most.

    Raises:
        OSError: The other process has ended.
    """
    socket.send_fds(channel, [_MARK], [file.fileno() for file in files])


def receive_descriptors(channel: socket.socket) -> tuple[FileIO, ...]:
    """Wait for the next files that were handed over, at least one.

    Raises:
        OSError: The other process has ended, or sent no file.
    """
    _, descriptors, _, _ = socket.recv_fds(channel, len(_MARK), _MOST_DESCRIPTORS)
    if not descriptors:
        raise ConnectionError("no file came with the request")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return tuple(FileIO(descriptor, "rb") for descriptor in descriptors)


# Frames -------------------------------------------------------------------------------------------------------------


def encode_frame(message: Message) -> bytes:
    """A message as one frame."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return HEADER.pack(len(body)) + body


def decode_frame(body: bytes) -> Message:
    """The message in a frame's body.

    Raises:
        ValueError: The bytes are not a JSON object.
    """
    message = json.loads(body.decode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise ValueError("a frame holds an object")
    return message


def read_frame(stream: BinaryIO) -> Message | None:
    """The next message of a blocking stream, None at its end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = stream.read(length)
    return decode_frame(body) if len(body) == length else None


# Messages -----------------------------------------------------------------------------------------------------------


class ChunkingUnavailable(Exception):
    """A worker cannot chunk files: it lacks the tokenizer, or the library that reads it; says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a worker is asked for: one file parsed, with a ``ChunkRequest`` chunked too.

    Attributes:
        path: What the file is called. The worker reads the open descriptor that comes with the request, and so the
            tokenizer's; it opens paths itself only where the system cannot hand descriptors over (Windows).
        folder: The root that the file is below.
        limits: What it may cost.
        order: How it is chunked; None for not at all.
    """

    path: str
    folder: str
    limits: ParseLimits
    order: ChunkRequest | None = None


def request_message(asked: Request) -> Message:
    """The message for one file."""
    order = asdict(asked.order) if asked.order else None
    return {"path": asked.path, "folder": asked.folder, "limits": asdict(asked.limits), "chunk": order}


def parse_request(message: Message) -> Request:
    """The request in a message."""
    order = ChunkRequest(**message["chunk"]) if message.get("chunk") else None
    limits = dict(message["limits"])
    if limits.get("shown_secrets") is not None:
        limits["shown_secrets"] = tuple(limits["shown_secrets"])
    return Request(str(message["path"]), str(message["folder"]), ParseLimits(**limits), order)


def parsed_message(parsed: Parsed) -> Message:
    """The message for a parsed file."""
    document = parsed.document
    return {
        "outcome": "indexed",
        "sha256": parsed.sha256,
        "size": parsed.size,
        "mtime_ns": parsed.mtime_ns,
        "inode": parsed.inode,
        "units": [[unit.kind, unit.name, unit.text, unit.heading] for unit in document.units],
        "syntax": document.syntax,
        "parser": document.parser,
        "title": document.title,
        "secrets": list(document.secrets),
    }


def failure_message(error: ParseFailed) -> Message:
    """The message for a file that gave no text; a library's error may quote the file."""
    outcome = "lacking" if isinstance(error, LibraryMissing) else "skipped"
    return {"outcome": outcome if isinstance(error, ParseSkipped) else "failed", "reason": blank(str(error)).text}


def chunking_unavailable_message(reason: str) -> Message:
    """The message for a file that this worker cannot chunk."""
    return {"outcome": "not chunked", "reason": reason}


def chunking_message(parsed: Parsed) -> Message:
    """The message between parsing and chunking: how many characters there are to chunk."""
    return {"characters": sum(len(unit.text) for unit in parsed.document.units), "more": True}


def prepared_messages(parsed: Parsed, made: ChunkedDocument | None) -> Iterator[Message]:
    """The messages for a chunked file; ``made`` is None when its content is the known one."""
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
        "inode": parsed.inode,
        "parser": parsed.document.parser,
        "language": made.language if made else "",
        "secrets": list(made.secrets) if made else [],
    }


def prepared_from(messages: Sequence[Message]) -> PreparedFile:
    """The file in the messages of an answer.

    Raises:
        ChunkingUnavailable: The worker cannot chunk.
        LibraryMissing, ParseSkipped, ParseFailed: As ``parsed_from``.
    """
    last = messages[-1]
    if last.get("outcome") == "not chunked":
        raise ChunkingUnavailable(str(last["reason"]))
    if last.get("outcome") not in ("prepared", "same"):
        parsed_from(last)
        raise ParseFailed("the parser gave no answer")
    made = None
    if last["outcome"] == "prepared":
        found = [row for message in messages if "texts" in message for row in _rows(message)]
        words = tuple(token for message in messages if "texts" in message for token in message["tokens"])
        reach = tuple(count for message in messages if "texts" in message for count in message["reach"])
        made = ChunkedDocument(tuple(found), words, last["language"], tuple(last["secrets"]), reach)
    return PreparedFile(last["parser"], last["sha256"], last["size"], last["mtime_ns"], last["inode"], made)


def _columns(chunks: Sequence[Chunk], tokens: Sequence[str], reach: Sequence[int]) -> Message:
    locators = [chunk.locator for chunk in chunks]
    return {
        "ordinals": [chunk.ordinal for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "headings": [chunk.heading for chunk in chunks],
        "kinds": [locator.kind for locator in locators],
        "units": [locator.unit for locator in locators],
        "starts": [locator.start for locator in locators],
        "ends": [locator.end for locator in locators],
        "tokens": list(tokens),
        "reach": list(reach),
        "more": True,
    }


def _rows(message: Message) -> Iterator[Chunk]:
    locators = map(Locator, message["kinds"], message["units"], message["starts"], message["ends"])
    return map(Chunk, message["ordinals"], message["texts"], message["headings"], locators)


def parsed_from(message: Message) -> Parsed:
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
    document = Document(units, message["syntax"], message["parser"], message["title"], tuple(message["secrets"]))
    return Parsed(document, message["sha256"], message["size"], message["mtime_ns"], message["inode"])
