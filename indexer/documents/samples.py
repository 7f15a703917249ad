"""One small document for each library of a worker: whether the library still works where the process is confined.

A library may start threads, open files of its own or use a system call that a limit refuses, on some system or in some
version of it; then every file of its formats would fail with a reason that misleads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from indexer.documents.encoding import decode
from indexer.documents.worker_protocol import chunk_document
from indexer.models.tokenizer import counts_a_sample
from indexer.types import Document, Unit

WORD = "sample"
"""What the text of each document begins with."""
_MAX_CHARS = 10_000
_HTML = f"<html><body><h1>A title</h1><p>{WORD} of a page</p></body></html>".encode()
_TEXT = f"{WORD}: Übermäßig große Bären fräßen köstliche Äpfel, während die Vögel überm See schöne Töne übten.".encode(
    "cp1252"
)
_CODE = Unit("lines", "", f"def {WORD}():\n    return 1\n" * 20)
_PROSE = Unit("lines", "", f"{WORD} of a text that is cut.\n\nIt has two paragraphs.\n")


def failing(libraries: Iterable[str]) -> tuple[str, ...]:
    """Those of ``libraries`` whose sample does not give its text; what each said goes to stderr."""
    return tuple(name for name in libraries if not _works(name))


def _works(library: str) -> bool:
    sample = _SAMPLES.get(library)
    try:
        if sample is None or sample():
            return True
        said = "its text is not the sample's"
    except Exception as error:  # whatever a library raises where a limit refuses what it needs
        said = f"{type(error).__name__}: {error}"
    sys.stderr.write(f"error: {library} does not read its sample: {said}\n")
    return False


def _pdf() -> bool:
    from indexer.documents.pdf import read_pdf  # noqa: PLC0415  # pypdfium2: only workers load it

    return read_pdf(_pdf_file(), _MAX_CHARS).units[0].text.startswith(WORD)


def _pdf_file() -> bytes:
    """A page with the word in a font that the file does not hold, so that pdfium looks for one."""
    text = f"BT /F1 12 Tf 20 50 Td ({WORD}) Tj ET".encode()
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 5 0 R/Resources<</Font<</F1 4 0 R>>>>>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(text), text),
    )
    made, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj%s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return made + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def _converted() -> bool:
    from indexer.documents.extract import extract  # noqa: PLC0415  # asyncio, and xberg's 160 MB of code

    return WORD in extract(_HTML, "html", _MAX_CHARS).text


def _decoded() -> bool:
    return "große Bären" in decode(_TEXT)


def _cut() -> bool:
    cut = chunk_document(Document((_CODE, _PROSE), "python", WORD), _Words(), 50, WORD)
    return bool(cut.chunks) and WORD in cut.chunks[0].text and WORD in cut.tokens[0]


class _Words:
    """Counts words, where no tokenizer is needed."""

    def starts(self, text: str) -> Sequence[int]:
        """Where each word begins."""
        return [at for at, each in enumerate(text) if not each.isspace() and (at == 0 or text[at - 1].isspace())]


_SAMPLES: dict[str, Callable[[], bool]] = {
    "pypdfium2": _pdf,
    "xberg": _converted,
    "charset_normalizer": _decoded,
    "tokenizers": counts_a_sample,
    "semantic_text_splitter": _cut,
}
"""By library; the splitter's stands for all that cut: tree-sitter and the stemmers run in it too."""
