"""Broken and hostile files, made on the spot: each must end as a recorded outcome within its limits."""

# ruff: noqa: E501, PLW0108

from __future__ import annotations

import io
import os
import random
import socket
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from documents import docx, pdf, xlsx, zipped

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha ha ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
) + "]>"  # fmt: skip
REMOTE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd"><!ENTITY r SYSTEM "http://192.0.2.1/x">]>'
_NOISE = random.Random(5)


def _bomb(inner: str, megabytes: int) -> bytes:
    """A document whose part ``inner`` is far larger than the file."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(docx([(0, "x")]))) as sound,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in sound.namelist():
            if name != inner:
                archive.writestr(name, sound.read(name))
        with archive.open(inner, "w", force_zip64=True) as stream:
            stream.write(
                b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
            )
            for _ in range(megabytes):
                stream.write(b"<w:p><w:r><w:t>aaaaaaaaaaaaaaaaaaaa</w:t></w:r></w:p>" * 20_000)
            stream.write(b"</w:body></w:document>")
    return out.getvalue()


def _with_part(part: str, text: str) -> bytes:
    """A Word document with one part replaced."""
    with zipfile.ZipFile(io.BytesIO(docx([(0, "x")]))) as sound:
        parts = {name: sound.read(name).decode("utf-8") for name in sound.namelist()}
    return zipped(parts | {part: text})


def _word(body: str, before: str = "") -> bytes:
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    return _with_part("word/document.xml", f"{before}<w:document {space}><w:body>{body}</w:body></w:document>")


def _nested_zip(depth: int) -> bytes:
    data = b"the innermost text"
    for level in range(depth):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{level}.zip" if level else "text.txt", data)
        data = out.getvalue()
    return data


def _many_pages(count: int) -> bytes:
    kids = " ".join(["3 0 R"] * count)
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        + f"2 0 obj<</Type/Pages/Count {count}/Kids[{kids}]>>endobj\n".encode()
        + b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
        + b"4 0 obj<</Length 33>>stream\nBT /F 9 Tf 9 9 Td (a page) Tj ET \nendstream endobj\n"
        + b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/NoSuchFont>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    )


def _parts(depth: int) -> bytes:
    text, end = "From: a@b.c\nSubject: deep\nMIME-Version: 1.0\n", ""
    for level in range(depth):
        text += f'Content-Type: multipart/mixed; boundary="b{level}"\n\n--b{level}\n'
        end = f"\n--b{level}--{end}"
    return (text + "Content-Type: text/plain\n\nthe innermost words" + end).encode()


def _noise(size: int) -> bytes:
    return _NOISE.randbytes(size)


SOUND_PDF = pdf(["The first page of a sound document."])
SOUND_DOCX = docx([(1, "Title"), (0, "The text of a sound document. " * 200)])
_HTML = b"<html><body><p>"

FILES: dict[str, Callable[[], bytes]] = {
    # nothing, not enough, or noise
    "zero.pdf": bytes, "zero.docx": bytes, "zero.eml": bytes, "zero.txt": bytes, "zero.xlsx": bytes,
    "truncated.pdf": lambda: SOUND_PDF[: len(SOUND_PDF) // 2],
    "truncated.docx": lambda: SOUND_DOCX[: len(SOUND_DOCX) // 2],
    "truncated.xlsx": lambda: xlsx({"A": [["a", "b"]] * 50})[:-200],
    "truncated.epub": lambda: zipped({"a.xhtml": "<p>x</p>"}, "application/epub+zip")[:-60],
    "noise.pdf": lambda: _noise(200_000), "noise.docx": lambda: _noise(200_000), "noise.txt": lambda: _noise(200_000),
    "noise.pptx": lambda: b"PK\x03\x04" + _noise(100_000), "noise.doc": lambda: OLE + _noise(100_000),
    "noise.xls": lambda: OLE + _noise(100_000), "noise.msg": lambda: OLE + _noise(100_000),
    "noise_in_pdf.pdf": lambda: b"%PDF-1.7\n" + _noise(300_000),
    "noise.html": lambda: _noise(200_000), "noise.ipynb": lambda: _noise(50_000), "noise.rtf": lambda: _noise(50_000),
    # not what the name says
    "really_pdf.docx": lambda: SOUND_PDF, "really_docx.pdf": lambda: SOUND_DOCX, "program.txt": lambda: b"\x7fELF" + bytes(4000),
    "really_html.xlsx": lambda: _HTML + b"words in a page</body>", "really_zip.txt": lambda: _nested_zip(1),
    "encrypted.docx": lambda: OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600),
    "no_document.epub": lambda: zipped({"a.txt": "x"}, "application/epub+zip"),
    "no_parts.pptx": lambda: zipped({"ppt/nothing.xml": "<x/>"}), "no_parts.odt": lambda: zipped({"x": "y"}, "application/vnd.oasis.opendocument.text"),
    # bombs
    "bomb.docx": lambda: _bomb("word/document.xml", 150), "bomb.xlsx": lambda: _bomb("xl/worksheets/sheet1.xml", 150),
    "laughs.docx": lambda: _word("<w:p><w:r><w:t>&j;</w:t></w:r></w:p>", LAUGHS),
    "laughs.xml": lambda: (LAUGHS + "<x>&j;</x>").encode(), "laughs.html": lambda: (LAUGHS + "<x>&j;</x>").encode(),
    "nested.zip": lambda: _nested_zip(60), "nested.docx": lambda: _nested_zip(60),
    "pages.pdf": lambda: _many_pages(10_000),
    "own_child.pdf": lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 9/Kids[2 0 R]>>"
    b"endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "long_stream.pdf": lambda: SOUND_PDF.replace(b"/Length ", b"/Length 99999999"),
    # nesting
    "deep.html": lambda: b"<div>" * 100_000 + b"deep words", "deep.json": lambda: b"[" * 500_000,
    "deep.md": lambda: b">" * 200_000 + b" deep\n", "deep.py": lambda: b"(" * 100_000 + b"\n", "deep.c": lambda: b"{" * 200_000,
    "deep.rtf": lambda: b"{\\rtf1 " + b"{" * 100_000 + b"x", "deep.eml": lambda: _parts(1000),
    "deep.ipynb": lambda: b'{"cells": ' + b"[" * 100_000, "deep.docx": lambda: _word("<w:p>" * 20_000 + "</w:p>" * 20_000),
    # size and shape
    "line.txt": lambda: b"words " * 850_000, "line.json": lambda: b'{"a": "' + b"x" * 5_000_000 + b'"}',
    "line.html": lambda: _HTML + b"word " * 1_000_000, "stars.md": lambda: b"*_`[" * 250_000,
    "columns.csv": lambda: b",".join(b"%d" % n for n in range(300_000)), "cell.csv": lambda: b'a,"' + b"x" * 5_000_000 + b'"\n',
    "last_row.xlsx": lambda: xlsx({"A": [["far", "below"]]}, first_row=1_048_576),
    "mbox.mbox": lambda: b"".join(b"From a@b.c Mon Jan  1 00:00:00 2024\nSubject: %d\n\nbody\n\n" % n for n in range(10_000)),
    "slashes.tex": lambda: b"\\" * 1_000_000,
    # encodings
    "mixed.txt": lambda: "gr\u00fc\u00dfe ".encode("latin-1") * 500 + "gr\u00fc\u00dfe ".encode() * 500,
    "odd.txt": lambda: "\ufeffwords".encode("utf-16-le") * 50 + b"x", "nuls.html": lambda: b"<p>a\0b\0c" * 1000,
    "broken_base64.eml": lambda: b"Subject: x\nContent-Transfer-Encoding: base64\n\n" + b"!!!!" * 50_000,
    # references and macros
    "entities.docx": lambda: _word("<w:p><w:r><w:t>&e;&r;</w:t></w:r></w:p>", REMOTE),
    "remote.html": lambda: b'<img src="http://192.0.2.1/a"><iframe src="file:///etc/passwd"></iframe><p>only words',
    "macro.docm": lambda: _with_part("word/vbaProject.bin", "Sub AutoOpen()\nShell \"true\"\nEnd Sub"),
    # names
    "a\nnewline.txt": lambda: b"words", "\u202egnp.txt": lambda: b"words", "n" * 240 + ".txt": lambda: b"words",
    os.fsdecode(b"not-utf8-\xff.txt"): lambda: b"words", "-rf.txt": lambda: b"words", "$(true);'\".md": lambda: b"words",
}  # fmt: skip


def make(folder: Path) -> list[str]:
    """Write them all, and what is no file: a pipe, a socket, links, a sparse gigabyte. The names made."""
    names = list(FILES)
    for name, content in FILES.items():
        (folder / name).write_bytes(content())
    os.mkfifo(folder / "pipe.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "out.txt").symlink_to("/etc/passwd")
    with (folder / "gigabyte.txt").open("wb") as stream:
        stream.truncate(1 << 30)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as listening:  # a path can be too long for a socket
        listening.bind(str(folder / "socket.txt"))
    return [*names, "pipe.txt", "loop.txt", "out.txt", "gigabyte.txt"]
