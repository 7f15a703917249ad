"""The format of a file: by suffix, corrected by its first bytes; names of file types.

Content takes precedence over the name: a PDF called ``.docx`` is read as a PDF, a program called ``.txt`` is skipped.
Formats that only need decoding are read in this process, all others in a worker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from indexer.documents.encoding import wide_encoding
from indexer.errors import QueryError

Family = Literal["plain", "table", "notebook", "mail", "pdf", "office", "html", "binary"]

HEAD = 8192
"""Bytes from the start of a file that decide its format (Git examines 8,000)."""


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one format are read.

    Attributes:
        name: Its usual name; also the suffix given to the converter.
        family: The reader that reads it; ``binary`` for files that are not read.
        syntax: ``Document.syntax`` of plain files.
    """

    name: str
    family: Family
    syntax: str = "text"

    @property
    def in_process(self) -> bool:
        """Whether reading it is only decoding, which is safe in the server's process."""
        return self.family in ("plain", "table", "binary")


TEXT = Format("text", "plain", "text")
PDF = Format("pdf", "pdf")
HTML = Format("html", "html")
RTF = Format("rtf", "office")
BINARY = Format("binary", "binary")

_PLAIN = {
    "markdown": "md markdown mdown mkd mdx qmd rmd",
    "rst": "rst rest",
    "org": "org",
    "latex": "tex latex ltx sty cls bib",
    "asciidoc": "adoc asciidoc asc",
    "text": "txt text log nfo srt vtt ics vcf properties cfg conf ini editorconfig diff patch po pot "
    "json jsonl ndjson json5 geojson yaml yml toml xml xsd xsl xslt rss atom plist opml kml gpx sql graphql gql "
    "proto thrift css scss less sass sh bash zsh fish ps1 bat cmd awk sed make mk cmake dockerfile tf hcl nix gradle "
    "groovy kt kts scala swift m mm cs fs fsx vb rb pl pm php lua r jl dart ex exs erl hrl hs ml mli clj cljs lisp el "
    "scm vim f f90 f95 for pas d zig nim v sv vhd vhdl asm s vue svelte astro jsp erb ejs hbs tmpl textile wiki",
    "python": "py pyi pyw pyx",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c h",
    "cpp": "cpp cc cxx c++ hpp hh hxx h++ ino cu cuh",
}
_TABLES = "csv tsv tab psv"
_WORKER: dict[Family, str] = {
    "notebook": "ipynb",
    "mail": "eml emlx mbox mbx mht mhtml",
    "pdf": "pdf",
    "html": "html htm xhtml xht",
    "office": "docx docm dotx pptx pptm ppsx potx xlsx xlsm xltx xlsb odt ott ods ots odp otp rtf epub fb2 doc dot "
    "xls ppt pps msg",
}
_BINARY = (
    "png jpg jpeg svg gif bmp tif tiff webp heic heif avif ico psd eps cr2 nef mp3 wav flac ogg oga opus m4a aac wma "
    "mid midi mp4 m4v mkv mov avi wmv webm flv mpg mpeg zip gz tgz bz2 tbz xz txz zst 7z rar tar cab iso dmg img jar "
    "war ear whl egg apk ipa deb rpm msi exe dll so dylib pyc pyo class wasm bin db sqlite sqlite3 mdb accdb "
    "parquet arrow feather npy npz h5 hdf5 pkl pickle pt pth onnx safetensors gguf ckpt ttf otf woff woff2 eot swf "
    "fla blend fbx stl glb vmdk vdi qcow2 pst ost lance"
)


def _table() -> dict[str, Format]:
    known = {s: Format(s, "plain", syntax) for syntax, names in _PLAIN.items() for s in names.split()}
    known |= {s: Format(s, "table", "table") for s in _TABLES.split()}
    known |= {s: Format(s, family) for family, names in _WORKER.items() for s in names.split()}
    return known | {s: Format(s, "binary") for s in _BINARY.split()}


SUFFIXES = _table()
"""Suffix in lower case without its dot -> format. Files with another suffix are judged by content alone."""


def by_name(path: str) -> Format | None:
    """The format that the file's suffix stands for, None if unknown."""
    suffix = PurePath(path).suffix.lower().lstrip(".")
    return SUFFIXES.get(suffix)


def by_content(head: bytes, named: Format | None) -> Format:
    """The format of a file that begins with ``head`` (at most ``HEAD`` bytes) and is named as ``named``.

    ZIP and OLE files with an unknown suffix are returned as ``office``: the reader looks inside and skips archives.
    """
    magic = _by_magic(head)
    if magic is not None:
        if magic.family == "office" and named is not None and named.family == "office":
            return named
        if magic.family == "office" and named is not None and named.family == "binary":
            return named
        return magic
    if named is not None and named.family not in ("plain", "table"):
        return _text_without_signature(head, named)
    if holds_nul(head):
        return BINARY
    return named or TEXT


def _by_magic(head: bytes) -> Format | None:
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return Format("zip", "office")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return Format("ole", "office")
    if head.startswith(b"{\\rtf"):
        return RTF
    return None


def _text_without_signature(head: bytes, named: Format) -> Format:
    """Read a file named as a document as plain text if it lacks the signature and its bytes are text."""
    if named.family not in ("office", "pdf") or named.name in ("fb2",) or holds_nul(head) or not head:
        return named
    if named.name == "rtf" and head.lstrip().startswith(b"{\\"):
        return named  # some programs write RTF without its first control word
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<table")):
        return HTML
    return TEXT if _printable(head) else named


def _printable(head: bytes) -> bool:
    """Whether the bytes have no control character that text never has."""
    return not any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)


def holds_nul(head: bytes) -> bool:
    """Whether the bytes are binary: they hold a NUL and are not UTF-16 or UTF-32 text."""
    return b"\0" in head and wide_encoding(head) is None


# File types ---------------------------------------------------------------------------------------------------------
# From names of file types ("pdf", "code", "slides", ".md") to suffixes.

_NAMED = {
    "code": "py pyi pyw pyx js jsx mjs cjs ts mts cts tsx go rs java kt kts scala swift c h cpp cc cxx hpp hh hxx ino "
    "cu cuh m mm cs fs fsx vb rb pl pm php lua r jl dart ex exs erl hrl hs ml mli clj cljs lisp el scm vim f f90 f95 "
    "for pas d zig nim v sv vhd vhdl asm s sh bash zsh fish ps1 bat cmd awk sql proto thrift gradle groovy cmake mk "
    "vue svelte astro tf hcl nix",
    "text": "md markdown mdown mkd mdx qmd rmd rst rest org tex latex ltx adoc asciidoc asc txt text log textile wiki",
    "documents": "pdf docx docm dotx doc dot odt ott rtf epub fb2",
    "slides": "pptx pptm ppsx potx ppt pps odp otp",
    "sheets": "xlsx xlsm xltx xlsb xls ods ots csv tsv tab psv",
    "config": "json jsonl json5 yaml yml toml ini cfg conf properties xml plist",
}
_SUFFIX = re.compile(r"[\w+-]{1,20}")
_FAMILIES = {form.family for form in SUFFIXES.values()} - {"plain", "binary"}
_SYNTAXES = {form.syntax for form in SUFFIXES.values() if form.family == "plain"} - {"text"}
KINDS = tuple(sorted({*_NAMED, *_FAMILIES, *_SYNTAXES}))
"""Names of several suffixes; any other name is a suffix itself."""


def suffixes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The suffixes of file type names, lower case without the dot, each once; ``.md`` and ``md`` are suffixes.

    Raises:
        QueryError: A name is neither a type nor a suffix; the message lists the types.
    """
    return tuple(dict.fromkeys(suffix for name in names for suffix in _suffixes_of_name(name)))


def _suffixes_of_name(name: str) -> tuple[str, ...]:
    word = name.strip().lower().removeprefix("*")
    bare = word.removeprefix(".")
    if not _SUFFIX.fullmatch(bare):
        raise QueryError(
            f"file_types has {name[:60]!r}; give suffixes such as 'pdf' or 'md', or one of {', '.join(KINDS)}"
        )
    if word != bare or bare not in KINDS:
        return (bare,)
    if bare in _NAMED:
        return tuple(_NAMED[bare].split())
    return tuple(
        s for s, form in SUFFIXES.items() if bare == form.family or (form.family, bare) == ("plain", form.syntax)
    )
