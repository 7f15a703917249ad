"""Valid ODT, EPUB, DOCX, XLSX and PPTX packages whose XML declares entities: of files, of URLs, of each other."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from documents import docx, epub, odt, opendocument, pptx, xlsx

WORDS = "only words"
"""Text that stands beside the entities."""
MARK = "ENTITIES"
_SOUND = {
    "odt": (odt([(1, "A title"), (0, f"{WORDS} {MARK}")]), "content.xml"),
    "odp": (opendocument("presentation", f"<draw:page><draw:frame><draw:text-box><text:p>{WORDS} {MARK}</text:p>"
                         "</draw:text-box></draw:frame></draw:page>"), "content.xml"),
    "epub": (epub([("A title", f"{WORDS} {MARK}")]), "c0.xhtml"),
    "docx": (docx([(1, "A title"), (0, f"{WORDS} {MARK}")]), "word/document.xml"),
    "xlsx": (xlsx({"Sheet": [["A title", f"{WORDS} {MARK}"]]}), "xl/worksheets/sheet1.xml"),
    "pptx": (pptx([("A title", f"{WORDS} {MARK}")]), "ppt/slides/slide1.xml"),
}  # fmt: skip
"""By suffix: a sound package, and the part with its text."""
_LISTS = {
    "epub": ("META-INF/container.xml", "book.opf"),
    "docx": ("[Content_Types].xml", "_rels/.rels"),
    "odt": ("META-INF/manifest.xml",),
}
"""Other parts that a reader goes through before the text."""
LEVELS = 12
"""Levels of tenfold entities: expanded, a million million times the innermost word."""


def declarations(secret: str, url: str) -> dict[str, tuple[str, str]]:
    """By kind: a document type declaration, and the text that uses it.

    Args:
        secret: URL of a file of this machine.
        url: URL that nobody must call.
    """
    laughs = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, LEVELS + 1)
    )
    long = f'<!ENTITY a0 "{"ha" * 50_000}">'
    return {
        "file": (f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret}">]>', "&e;"),
        "url": (f'<!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]>', "&e;"),
        "declaration elsewhere": (f'<!DOCTYPE x SYSTEM "{url}">', ""),
        "parameter": (f'<!DOCTYPE x [<!ENTITY % e SYSTEM "{url}"> %e;]>', ""),
        "parameter of a file": (f'<!DOCTYPE x [<!ENTITY % e SYSTEM "{secret}"> %e;]>', ""),
        "laughs": (f"<!DOCTYPE x [{laughs}]>", f"&a{LEVELS};"),
        "one long entity": (f"<!DOCTYPE x [{long}]>", "&a0;" * 50_000),
    }


def packages(secret: str, url: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every package, the arguments as those of ``declarations``."""
    for kind, (before, text) in declarations(secret, url).items():
        for suffix, (package, part) in _SOUND.items():
            yield f"{kind} in {part.replace('/', ' ')}.{suffix}", _changed(package, {part: before}, text)
        for suffix, parts in _LISTS.items():
            for part in parts:
                package = _changed(_SOUND[suffix][0], {part: before}, "")
                yield f"{kind} in {part.replace('/', ' ')}.{suffix}", package


def _changed(package: bytes, before: dict[str, str], text: str) -> bytes:
    """The package with declarations before some parts, and ``text`` in place of the mark."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as sound, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for entry in sound.infolist():
            content = sound.read(entry).decode("utf-8").replace(MARK, text)
            made.writestr(entry, before.get(entry.filename, "") + content, entry.compress_type)
    return out.getvalue()
