"""Documents that carry code, formulas or references: nothing of it runs or is fetched, and text stays text.

Parsed in processes that are not confined, as a limit would hide a try.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from broken_files import _with_part
from documents import odt, pdf, xlsx, zipped
from xml_entities import LEVELS, WORDS, packages

ROOT = Path(__file__).resolve().parents[3]

PARSE = """
import json, os, resource, sys, time
from indexer.errors import ParseFailed
from indexer.documents.parse import ParseLimits, open_source, parse_here
said = {}
for path in sys.argv[1:]:
    began = time.process_time()
    try:
        with open_source(path, os.path.dirname(path)) as source:
            text = "\\n".join(unit.text for unit in parse_here(path, source, ParseLimits()).document.units)
    except ParseFailed as error:
        text = "refused: " + str(error)
    said[os.path.basename(path)] = [text, time.process_time() - began]
sys.stdout.write(json.dumps([said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
sys.stdout.flush()
os._exit(0)
"""


def parsed(folder: Path, files: dict[str, bytes]) -> tuple[dict[str, tuple[str, float]], int]:
    """Text or reason of each file with its CPU seconds, and the peak memory of all, kilobytes."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = [sys.executable, "-c", PARSE, *(str(folder / name) for name in files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=100)
    said, peak = json.loads(done.stdout)
    return {name: (str(text), float(seconds)) for name, (text, seconds) in said.items()}, int(peak)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads resource usage")
def test_entities_in_valid_packages_bring_no_file_no_connection_and_no_flood(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root: the content of another file", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        made = dict(packages(secret.as_uri(), url))
        said, peak = parsed(tmp_path, made)
        with pytest.raises(BlockingIOError):  # nobody has called
            listening.accept()
    assert len(said) == len(made) > 60
    assert [name for name, (text, _) in said.items() if "the content of another file" in text] == []
    assert [name for name, (text, _) in said.items() if "an archive" in text] == [], "then no entity was looked at"
    assert [name for name, (text, _) in said.items() if len(text) > 300_000] == []
    assert [name for name, (_, seconds) in said.items() if seconds > 20] == []
    assert peak < 1_000_000, "expanded, the words would take terabytes"
    assert LEVELS == 12
    read = [name for name, (text, _) in said.items() if WORDS in text]
    assert {name.rpartition(".")[2] for name in read} >= {"odt", "odp", "epub", "docx", "xlsx"}


MACRO = "import os\nos.mkdir({place!r})\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads resource usage")
def test_macros_and_actions_of_documents_do_not_run(tmp_path: Path) -> None:
    place = tmp_path / "ran"
    python = MACRO.format(place=str(place))
    basic = f'<script:module xmlns:script="x">Sub Main\nShell("mkdir {place}")\nEnd Sub</script:module>'
    action = f"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /Launch /F (mkdir) /P ({place}) >> >>"
    script = f"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (app.launchURL\\('{place}'\\)) >> >>"
    plain = "<< /Type /Catalog /Pages 2 0 R >>"
    page = pdf([WORDS]).decode("latin-1")
    files = {
        "macro.odt": _added(odt([(0, WORDS)]), {"Scripts/python/run.py": python, "Basic/Standard/Module1.xml": basic}),
        "macro.docm": _with_part("word/vbaProject.bin", f'Sub AutoOpen()\nShell "mkdir {place}"\nEnd Sub'),
        "macro.xlsm": _added(xlsx({"Sheet": [[WORDS]]}), {"xl/vbaProject.bin": "Auto_Open"}),
        "launch.pdf": page.replace(plain, action).encode("latin-1"),
        "script.pdf": page.replace(plain, script).encode("latin-1"),
        "script.html": f"<script>{python}</script><p onclick='x()'>{WORDS}</p>".encode(),
        "cell.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": python, "outputs": []}]}).encode(),
        "module.py": python.encode(),
    }
    said, _ = parsed(tmp_path, files)
    assert not place.exists()
    text = {name: words for name, (words, _) in said.items()}
    without_words = {"macro.docm", "cell.ipynb", "module.py"}
    assert [name for name in files if name not in without_words and WORDS not in text[name]] == []
    assert "os.mkdir" in text["module.py"], "code is text"
    assert "os.mkdir" in text["cell.ipynb"]


def _added(package: bytes, parts: dict[str, str]) -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(package)) as sound:
        texts = {name: sound.read(name).decode("utf-8") for name in sound.namelist() if name != "mimetype"}
        first = sound.read("mimetype").decode() if "mimetype" in sound.namelist() else ""
    return zipped(texts | parts, first)


FORMULAS = ('=cmd|"/C calc"!A0', '=HYPERLINK("http://127.0.0.1/"&A1)', "+1+1", "-2+3", "@SUM(1)", "=1+1", "\t=1+1")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads resource usage")
def test_a_cell_that_begins_like_a_formula_stays_the_text_it_is(tmp_path: Path) -> None:
    lines = "\n".join(["name;value", *(f"{n};{cell}" for n, cell in enumerate(FORMULAS))])
    said, _ = parsed(tmp_path, {"a.csv": lines.encode(), "b.xlsx": xlsx({"Sheet": [[cell] for cell in FORMULAS]})})
    assert said["a.csv"][0] == lines
    assert said["b.xlsx"][0].splitlines() == [cell.strip() for cell in FORMULAS]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="time zones are set by TZ")
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns", "no/such", ":/etc/passwd"])
def test_the_time_zone_changes_nothing_of_the_text(tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    letter = b"From: a@b.c\nDate: Mon, 1 Jan 2024 23:30:00 -0330\nSubject: hello\n\nthe body\n"
    files = {"a.eml": letter, "b.xlsx": xlsx({"Sheet": [["2024-01-01 23:30"]]})}
    said, _ = parsed(tmp_path, files)
    assert "the body" in said["a.eml"][0] and "2024" in said["a.eml"][0]
    monkeypatch.setenv("TZ", "UTC")
    again, _ = parsed(tmp_path, files)
    assert {name: text for name, (text, _) in said.items()} == {name: text for name, (text, _) in again.items()}
