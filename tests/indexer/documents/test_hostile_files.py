"""Hostile files through the real parsers: an outcome each, no process lost, nothing fetched, no macro run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from broken_files import FILES, REMOTE, make
from documents import docx, odt, opendocument
from hostile import described

from indexer.documents.parse import ParseLimits
from indexer.documents.pool import open_parsers
from indexer.errors import ParseFailed, ParseSkipped
from indexer.files.ignore import Ignore
from indexer.files.walk import Skipped, walk

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

# Name -> how it ends: words of its text, or of the reason why it has none.
EXPECTED = {
    "pages.pdf": "a page",  # 10,000 pages in a font that is not there
    "own_child.pdf": "damaged|no page",
    "nested.docx": "archive",
    "encrypted.docx": "encrypted",
    "zero.pdf": "",
    "truncated.docx": "damaged",
    "no_parts.odt": "damaged",
    "really_pdf.docx": "first page of a sound document",
    "entities.docx": "",
    "macro.docm": "x",
    "mixed.txt": "gr",
    "a\nnewline.txt": "words",
    "-rf.txt": "words",
}

PARSE = """
import os, sys
from indexer.errors import ParseFailed
from indexer.documents.parse import ParseLimits, open_source, parse_here
for path in sys.argv[1:]:
    try:
        for unit in parse_here(path, open_source(path, os.path.dirname(path)), ParseLimits()).document.units:
            print(unit.text)
    except ParseFailed as error:
        print("refused", error)
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_hostile_files_end_as_they_should_and_cost_no_process(tmp_path: Path) -> None:
    wrong = []
    with anyio.fail_after(120):
        async with open_parsers(limits=ParseLimits(seconds=60)) as parsers:
            for name, words in EXPECTED.items():
                place = tmp_path / name
                place.write_bytes(FILES[name]())
                try:
                    document = (await parsers.parse(described(place))).document
                    said = "\n".join(unit.text for unit in document.units)
                except ParseFailed as error:
                    said = str(error)
                if not any(each in said for each in words.split("|")) or "root:" in said:
                    wrong.append((name, said[:200]))
            assert parsers.status().restarts == 0
    assert wrong == []


def test_nothing_a_document_points_to_is_fetched(tmp_path: Path) -> None:
    """In a process that may reach the network, as a parser's own confinement would hide a try."""
    secret = tmp_path / "secret.txt"
    secret.write_text("root: the content of another file", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        there = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        entities = REMOTE.replace("file:///etc/passwd", secret.as_uri()).replace("http://192.0.2.1/x", there)
        pictures = f"<draw:frame><draw:image xmlns:x='http://www.w3.org/1999/xlink' x:href='{there}'/></draw:frame>"
        files = {
            "a.html": f"<base href='{there}'><link rel=stylesheet href='{there}'><script src='{there}'></script>"
            f"<img src='{there}'><iframe src='{secret.as_uri()}'></iframe><p>only words",
            "b.xml": f"{entities}<x>only words &e;&r;</x>",
            "c.rtf": rf'{{\rtf1 only words {{\field{{\*\fldinst INCLUDEPICTURE "{there}"}}}}}}',
            "d.md": f"only words ![a picture]({there})",
            "e.eml": "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nonly words\n--b\n"
            f"Content-Type: message/external-body; access-type=URL; URL={there}\n\n\n--b\nContent-Type: text/html\n\n"
            f"<img src='{there}'>\n--b--\n",
            "f.odt": opendocument("text", f"<text:p>only words {pictures}</text:p>"),
            "g.odt": opendocument("text", "<text:p>&e;&r;</text:p>", before=entities),
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        command = [sys.executable, "-c", PARSE, *(str(tmp_path / name) for name in files)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        with pytest.raises(BlockingIOError):  # nobody has called
            listening.accept()
    assert "the content of another file" not in done.stdout
    assert done.stdout.count("only words") == 6


def test_every_name_and_kind_of_entry_ends_in_the_walk_as_a_file_or_with_a_reason(tmp_path: Path) -> None:
    names = make(tmp_path)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        try:
            os.mknod(tmp_path / "null.txt", 0o600 | 0o020000, os.makedev(1, 3))
            names.append("null.txt")
        except OSError:
            pass  # a container may forbid it
    found = {
        os.path.basename(each.path): each for each in walk(str(tmp_path), Ignore(str(tmp_path), max_bytes=50 << 20))
    }
    assert set(names) <= set(found)
    reasons = {name: each.kind for name, each in found.items() if isinstance(each, Skipped)}
    special = {"pipe.txt", "socket.txt", "null.txt"} & set(found)
    assert {name for name, kind in reasons.items() if kind == "special"} == special
    assert {name for name, kind in reasons.items() if kind == "link"} == {"loop.txt", "out.txt"}
    assert reasons["gigabyte.txt"] == "large"


@pytest.mark.parametrize("kind", ["docx", "odt"])
async def test_what_is_said_of_a_cut_off_document_is_one_sentence(tmp_path: Path, kind: str) -> None:
    whole = docx([(0, "words " * 500)]) if kind == "docx" else odt([(0, "words " * 500)])
    place = tmp_path / f"cut.{kind}"
    place.write_bytes(whole[: len(whole) * 2 // 3])
    with anyio.fail_after(60):
        async with open_parsers() as parsers:
            with pytest.raises(ParseFailed, match="damaged") as raised:
                await parsers.parse(described(place))
    assert not isinstance(raised.value, ParseSkipped)
    assert "\n" not in str(raised.value)
