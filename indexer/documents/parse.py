"""A file to a ``Document``: reads its bytes safely and dispatches by format, in this process or in a worker."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from dataclasses import dataclass, replace
from io import FileIO

from indexer.documents import formats
from indexer.documents.plain import read_notebook, read_plain
from indexer.errors import ParseFailed, ParseSkipped
from indexer.files.open_inside import NotRegularFile, open_file
from indexer.text.secrets import Allowed, Blanked, blank, find_secrets
from indexer.types import Document, File, Unit, signed_inode

PARSERS = "parsers/2"
"""Version of the readers of all formats: any change of their text or locators raises it."""
WALL_CLOCK_FACTOR = 4
"""By the clock, a process may take so many times its time limit, which counts CPU time."""
_NOISE_SAMPLE = 10_000
"""Characters of a unit that are checked for noise."""
_NOISE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")


class LibraryMissing(ParseSkipped):
    """The interpreter lacks the package that reads this format; the file is read once it is installed."""


class FileReplaced(ParseSkipped):
    """Since the file was seen something else has taken its name or that of a directory above it; look again."""


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one file may cost, and what of it may be shown.

    Attributes:
        max_bytes: Size of a file, bytes.
        max_chars: Text that may come out of it, characters.
        memory_bytes: Private memory of a worker process, bytes; 0 = no limit. POSIX only.
        seconds: CPU time for an empty file, seconds.
        seconds_per_mb: Additional time for each megabyte (10^6 bytes).
        max_seconds: Most time for any file, seconds.
        chunk_seconds: CPU time to chunk an empty text, seconds.
        chunk_seconds_per_mchar: Additional time for each million characters.
        chunk_max_seconds: Most time for any text, seconds.
        shown_secrets: Which secrets are not blanked, as ``secrets.Allowed``.
    """

    max_bytes: int = 200_000_000
    max_chars: int = 20_000_000
    memory_bytes: int = 2 << 30
    seconds: float = 10.0
    seconds_per_mb: float = 1.0
    max_seconds: float = 120.0
    chunk_seconds: float = 10.0
    chunk_seconds_per_mchar: float = 20.0
    chunk_max_seconds: float = 300.0
    shown_secrets: Allowed = ()

    def time_for(self, size: int) -> float:
        """Seconds allowed for a file of ``size`` bytes."""
        return min(self.max_seconds, self.seconds + self.seconds_per_mb * size / 1e6)

    def time_to_chunk(self, characters: int) -> float:
        """Seconds allowed for chunking a text."""
        return min(self.chunk_max_seconds, self.chunk_seconds + self.chunk_seconds_per_mchar * characters / 1e6)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document and the version of the file it was read from.

    Attributes:
        sha256: Hex digest of the file's bytes.
        size: Their number.
        mtime_ns: Modification time in nanoseconds.
        inode: As ``signed_inode``.
    """

    document: Document
    sha256: str
    size: int
    mtime_ns: int
    inode: int = 0


def format_of(path: str, source: FileIO) -> formats.Format:
    """The format of an open file by its name and first bytes; reads ``formats.HEAD`` bytes.

    Raises:
        ParseSkipped: It is binary.
        ParseFailed: It cannot be read.
    """
    found = formats.by_content(_read_head(source, formats.HEAD), formats.by_name(path))
    if found.family == "binary":
        raise ParseSkipped("binary file")
    return found


def read_document(path: str, data: bytes, limits: ParseLimits) -> Document:
    """Turn the bytes of the file at ``path`` into units of text without secrets; an empty file has none.

    Raises:
        ParseSkipped: Binary, encrypted, a scan, an archive, or beyond a limit.
        ParseFailed: Damaged.
    """
    named = formats.by_name(path)
    kind = formats.by_content(data[: formats.HEAD], named)
    if not data:
        return Document((), kind.syntax, "empty/1")
    document = _read(path, data, kind, limits)
    if sum(len(unit.text) for unit in document.units) > limits.max_chars:
        raise ParseSkipped(f"more text than the limit of {limits.max_chars:,} characters")
    if kind.family not in ("plain", "table") and _is_noise(document):
        raise ParseFailed("damaged: what comes out of it is not text")
    return _without_secrets(_without_surrogates(document), limits.shown_secrets)


def parse_here(path: str, source: FileIO, limits: ParseLimits) -> Parsed:
    """Read and parse an open file in this process.

    Args:
        path: What it is called: its suffix says what it may be.
        source: The file, open for reading; all its bytes are read, wherever it stands.
        limits: What it may cost.

    Raises:
        ParseSkipped, ParseFailed: As ``read_source`` and ``read_document``.
    """
    found = read_source(source, limits.max_bytes)
    return Parsed(read_document(path, found.data, limits), found.sha256, found.size, found.mtime_ns, found.inode)


def parse_if_plain(file: File, limits: ParseLimits) -> Parsed | None:
    """Parse a file here if that is only decoding, None if it needs a parser process.

    Raises:
        ParseSkipped, ParseFailed: As ``open_source``, ``format_of`` and ``parse_here``.
    """
    with open_source(file.path, file.folder) as source:
        return parse_here(file.path, source, limits) if format_of(file.path, source).in_process else None


def _read(path: str, data: bytes, kind: formats.Format, limits: ParseLimits) -> Document:
    if kind.family in ("plain", "table"):
        return read_plain(path, data, kind)
    if kind.family == "notebook":
        return read_notebook(data)
    if kind.family == "pdf":
        from indexer.documents.pdf import read_pdf  # noqa: PLC0415  # pypdfium2: only workers load it

        return read_pdf(data, limits.max_chars)
    if kind.family == "binary":
        raise ParseSkipped("binary file")
    from indexer.documents import mail, markup, office  # noqa: PLC0415  # only workers read these

    if kind.family == "mail":
        return mail.read_mail(data, kind.name, limits.max_chars)
    if kind.family == "html":
        return markup.read_html(data, limits.max_chars)
    return office.read_office(data, kind.name, limits.max_chars)


def _is_noise(document: Document) -> bool:
    """Whether more than a twentieth of the text are control or replacement characters: of random bytes a fifth are."""
    sample = "".join(unit.text[:_NOISE_SAMPLE] for unit in document.units[:20])
    return len(_NOISE.findall(sample)) * 20 > len(sample)


def _without_surrogates(document: Document) -> Document:
    """The document with lone surrogates replaced: they cannot be stored, and nobody can type them."""
    if all(map(_encodable, (document.title, *(part for u in document.units for part in (u.name, u.text, u.heading))))):
        return document
    units = (
        Unit(u.kind, _replace_surrogates(u.name), _replace_surrogates(u.text), _replace_surrogates(u.heading))
        for u in document.units
    )
    return replace(document, units=tuple(units), title=_replace_surrogates(document.title))


def _without_secrets(document: Document, shown: Allowed) -> Document:
    """The document with every secret blanked, in names and headings too; the only way from a parser to any reader.

    Units keep their lines. A key block may go on in the next unit: a page, a row, a cell.
    """
    if shown is None:
        return document
    texts: list[Blanked] = []
    for unit in document.units:
        open_key = bool(texts) and texts[-1].open_key
        texts.append(blank(unit.text, shown, syntax=document.syntax, open_key=open_key))
    labels = "\n".join((document.title, *(part for unit in document.units for part in (unit.name, unit.heading))))
    in_labels = find_secrets(labels, shown)
    if not in_labels and not any(text.kinds for text in texts):
        return document

    def label(part: str) -> str:
        return blank(part, shown).text if in_labels else part

    units = (Unit(u.kind, label(u.name), t.text, label(u.heading)) for u, t in zip(document.units, texts, strict=True))
    kinds = tuple(kind for text in texts for kind in text.kinds) or tuple(one.kind for one in in_labels)
    return replace(document, units=tuple(units), title=label(document.title), secrets=kinds)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


# The bytes of a file ------------------------------------------------------------------------------------------------
# Regular files only, never through a link, and never a mixture of two versions.

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a file and their version.

    Attributes:
        data: All of its bytes.
        sha256: Hex digest of ``data``.
        size: ``len(data)``.
        mtime_ns: Modification time in nanoseconds, the same before and after reading.
        inode: As ``signed_inode``.
    """

    data: bytes
    sha256: str
    size: int
    mtime_ns: int
    inode: int


def open_source(path: str, root: str) -> FileIO:
    """Open a file of a folder, without following a link in any part of its path. Known binaries are not opened.

    Raises:
        ParseSkipped: It is binary by its name.
        FileReplaced: It is not a regular file, or a link is on the way.
        ParseFailed: It cannot be opened.
    """
    named = formats.by_name(path)
    if named is not None and named.family == "binary":
        raise ParseSkipped(f"not text: .{named.name} files are not indexed")
    try:
        return open_file(path, root)
    except OSError as error:
        raise _explain(error) from error


def read_source(source: FileIO, max_bytes: int) -> Source:
    """Read an open file whole; one that changes meanwhile is read once more.

    Raises:
        ParseSkipped: It is larger than ``max_bytes``.
        ParseFailed: It cannot be read, or changed during both readings.
    """
    try:
        return _read_once(source, max_bytes) or _read_once(source, max_bytes) or _raise_changing()
    except OSError as error:
        raise _explain(error) from error


def _read_head(source: FileIO, length: int) -> bytes:
    try:
        source.seek(0)
        return source.read(length) or b""
    except OSError as error:
        raise _explain(error) from error


def _read_once(source: FileIO, max_bytes: int) -> Source | None:
    """Read once; None when the file changed meanwhile."""
    before = os.fstat(source.fileno())
    source.seek(0)
    digest, blocks, size = hashlib.sha256(), [], 0
    if before.st_size > max_bytes:
        raise ParseSkipped(f"larger than the limit of {max_bytes / 1e6:.0f} MB")
    while block := source.read(_BLOCK):
        size += len(block)
        if size > max_bytes:
            raise ParseSkipped(f"larger than the limit of {max_bytes / 1e6:.0f} MB")
        digest.update(block)
        blocks.append(block)
    after = os.fstat(source.fileno())
    same = _version(before) == _version(after) and size == after.st_size
    return Source(b"".join(blocks), digest.hexdigest(), size, after.st_mtime_ns, signed_inode(after)) if same else None


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _raise_changing() -> Source:
    raise ParseFailed("the file keeps changing while it is read; it is read again when it rests")


def _explain(error: OSError) -> ParseFailed:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ParseFailed("the file is gone")
    if isinstance(error, PermissionError):
        return ParseFailed("permission denied: give this user the right to read the file")
    if isinstance(error, NotRegularFile) or error.errno == errno.ENXIO:  # a socket
        return FileReplaced("not a regular file")
    if error.errno == errno.ELOOP:
        return FileReplaced("a symbolic link, or behind one; links are not followed")
    if error.errno == errno.EXDEV:
        return FileReplaced("outside the folder")
    return ParseFailed(f"the file cannot be read: {error.strerror or error}")
