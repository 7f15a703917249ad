"""A parser process whose libraries misbehave on purpose, as a script that the pool starts in Python's place."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import anyio

from indexer.documents.pool import Parsers
from indexer.types import File

ROOT = str(Path(__file__).parents[2])

# The real worker, whose parser does what a file's name says: stands for a library's crash, hang or leak.
HOSTILE = f"""#!{sys.executable}
import os, sys, importlib, signal, time, socket, subprocess
sys.path.insert(0, {ROOT!r})
from indexer.documents import worker
real = worker.parse_here
# A confined process can make nothing: what it is to do is decided by how many have started before it.
starts = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "starts")
os.makedirs(os.path.join(starts, str(os.getpid())))
started = len(os.listdir(starts))
def hostile(path, source, limits):
    name = os.path.basename(path)
    if name.startswith("crash"):
        sys.stderr.write("fatal error: the library broke\\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("hang"):
        while True:
            pass
    if name.startswith("bomb"):
        held = [bytearray(64 << 20) for _ in range(1000)]
    if name.startswith("noise"):
        print("a library prints to stdout")
        os.write(1, b"and so does its C code\\n")
        sys.stderr.write("warning: an odd font\\n")
        sys.stderr.flush()
    if name.startswith("net"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    if name.startswith("child"):
        subprocess.run(["true"])
    if name.startswith("flaky") and started == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("lacking") and not os.path.exists(os.path.dirname(os.path.dirname(path)) + "/installed"):
        raise ModuleNotFoundError("No module named 'odd_reader'", name="odd_reader.inner")
    if name.startswith("odd"):
        raise LookupError("something nobody thought of")
    return real(path, source, limits)
worker.parse_here = hostile
worker._LIBRARIES = ("charset_normalizer",)
asked = sys.argv.index("-m") + 1
importlib.import_module(sys.argv[asked]).main(sys.argv[asked + 1:])
"""


def script(place: Path, body: str) -> str:
    place.write_text(body, encoding="utf-8")
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return str(place)


def mail(folder: Path, name: str) -> File:
    """A file that a worker parses: a small message."""
    place = folder / f"{name}.eml"
    place.write_text("From: a@b.c\nSubject: hello\n\nthe body of it\n", encoding="utf-8")
    return described(place)


def described(place: Path) -> File:
    status = place.stat()
    return File(str(place), str(place.parent), status.st_size, status.st_mtime_ns)


async def gone(pid: int) -> None:
    """Wait, by an event, until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def still_well(parsers: Parsers, folder: Path) -> None:
    parsed = await parsers.parse(mail(folder, "sound"))
    assert "the body of it" in parsed.document.units[0].text
