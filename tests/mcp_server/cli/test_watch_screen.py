"""The live view: when it is drawn anew, what keys do, and that the terminal is given back. One test has a real one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from fakes import virtual_backend
from moments import HOME, NOTHING, NOW, STATUS
from rich.console import Console

from indexer.errors import FolderMcpError
from indexer.status_types import Status
from mcp_server.cli.watch import KEYS, RETRY_DELAYS_S, View, _redraw, cbreak, follow, key_presses, summary

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Told:
    """An engine that tells what it is told to, then ends, loses its owner, or is silent."""

    def __init__(self, *rounds: list[Status] | FolderMcpError) -> None:
        self.rounds = list(rounds)

    async def watch(self) -> AsyncIterator[Status]:
        told = self.rounds.pop(0) if self.rounds else []
        if isinstance(told, FolderMcpError):
            raise told
        for status in told:
            yield status
        if self.rounds:
            raise FolderMcpError("the owner ended")
        await anyio.sleep_forever()


def looking(status: Status | None = None) -> View:
    return View(status=status, home=HOME, clock=lambda: NOW)


def text(view: View, width: int = 80, height: int = 12) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    return ["".join(part.text for part in line).rstrip() for line in console.render_lines(view)]


def test_a_frame_has_exactly_the_height_of_the_terminal() -> None:
    for height in (3, 12, 200):
        assert len(text(looking(STATUS), height=height)) == height
    assert text(looking())[0] == "looking for the background process ..."
    assert text(looking())[-1] == "q quits"


def test_what_does_not_fit_can_be_reached_by_scrolling_and_not_more() -> None:
    view = looking(STATUS)
    whole = text(looking(STATUS), height=200)
    assert text(view)[:-1] == whole[:11] and "more lines" in text(view)[-1]
    view.top = 10_000
    last = text(view)
    assert last[-1].endswith("end") and last[-2] == [line for line in whole if line][-2]
    view.top -= 1
    assert text(view)[-1].endswith("1 more line") and text(view)[1] == last[0]


@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio"), virtual_backend("trio")], ids=lambda it: it[0])
async def test_the_view_lives_through_the_end_of_an_owner() -> None:
    view = View()
    engine = Told([NOTHING], FolderMcpError("nobody there"), FolderMcpError("nobody there"), [STATUS])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, engine, view)
        started = anyio.current_time()
        while view.status is not NOTHING:
            await view.changed.wait()
        while not view.lost:
            await view.changed.wait()
        assert text(view)[0].startswith("connection lost") and text(view)[1].startswith("folder-mcp")
        with anyio.fail_after(30):
            while view.lost or view.status is not STATUS:
                await view.changed.wait()
        assert anyio.current_time() - started == pytest.approx(sum(RETRY_DELAYS_S[:3]), abs=0.1)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
@pytest.mark.parametrize(("status", "expected"), [(NOTHING, 1), (STATUS, 10)])
async def test_the_screen_is_drawn_each_second_only_while_something_counts(status: Status, expected: int) -> None:
    drawn = []

    class Screen:
        def update(self, renderable: object, *, refresh: bool) -> None:
            drawn.append(renderable)

    began = anyio.current_time()
    with anyio.move_on_after(9.5):
        await _redraw(Screen(), View(status=status, clock=lambda: NOW + anyio.current_time() - began))  # type: ignore[arg-type]
    assert len(drawn) == expected


async def test_keys_are_read_one_by_one_and_the_terminal_is_as_it_was() -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with cbreak(theirs) as listening:
            assert listening
            assert not termios.tcgetattr(theirs)[3] & (termios.ICANON | termios.ECHO)
            os.write(ours, b"j\x1b[A?x")
            found = []
            with anyio.fail_after(5):
                async for key in key_presses(theirs):
                    found.append(key)
                    if key == KEYS[b"j"]:
                        os.write(ours, b"q")
                    if key == KEYS[b"q"]:
                        break
        assert found[0] == KEYS[b"j"] and found[-1] == KEYS[b"q"]
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pipe_has_no_keys() -> None:
    reading, writing = os.pipe()
    with cbreak(reading) as listening:
        assert not listening
    os.close(reading)
    os.close(writing)


def test_one_line_says_what_matters() -> None:
    assert summary(STATUS) == (
        "serving; slot ready all-MiniLM-L6-v2; /home/ada/notes ready: 1,204 files, 100 % embedded; "
        "/home/ada/work/reports of the year embedding: 412 files, 88 to read, 2 failed, 33 % embedded, 3 min left"
    )
    assert summary(NOTHING) == "serving; slot idle; no folders"


class Terminal:
    """``status --watch`` on a terminal of its own, with the fake engine."""

    def __init__(self, tmp_path: Path, **environ: str) -> None:
        notes = tmp_path / "notes"
        notes.mkdir()
        (notes / "keys.md").write_text("# Keys\n", encoding="utf-8")
        fake = [sys.executable, str(ROOT / "tests/mcp_server/fake_main.py"), "--data-dir", str(tmp_path / "data")]
        subprocess.run([*fake, "folders", "add", str(notes)], check=True, capture_output=True)
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*fake, "status", "--watch"], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
            env={**clean, "TERM": "xterm-256color", "HOME": str(tmp_path), **environ},
        )  # fmt: skip
        self.view = ""

    def until(self, words: str) -> str:
        """Read until ``words`` are there; return everything so far."""
        until = time.monotonic() + 60
        while words not in self.view:
            left = until - time.monotonic()
            ready = left > 0 and select.select([self.ours], [], [], min(left, 2.0))[0]
            alive = self.process.poll() is None and left > 0
            assert ready or alive, f"{words!r} did not come: {self.view!r}"
            if not ready:
                continue
            self.view += os.read(self.ours, 65536).decode()
        return self.view

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["q", "\x03"], ids=["q", "Ctrl-C"])
def test_a_real_terminal_is_painted_and_given_back(tmp_path: Path, end: str) -> None:
    terminal = Terminal(tmp_path)
    try:
        view = terminal.until("q quits")
        assert "\x1b[?1049h" in view and "\x1b[?25l" in view  # the other screen, no cursor
        assert "~/notes" in terminal.until("~/notes")
        fcntl.ioctl(terminal.theirs, termios.TIOCSWINSZ, struct.pack("4H", 6, 40, 0, 0))
        terminal.until("more line")
        os.write(terminal.ours, end.encode())
        view = terminal.until("\x1b[?1049l")
        assert terminal.process.wait(30) == (0 if end == "q" else 130)
        assert "\x1b[?25h" in terminal.view[view.index("\x1b[?1049h") :]
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    finally:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environ", "sequences"), [({"NO_COLOR": "1"}, r"\x1b\[[0-9;]*3[0-7]m"), ({"TERM": "dumb"}, r"\x1b")]
)
def test_colours_and_cursor_stay_away_where_they_are_not_wanted(
    tmp_path: Path, environ: dict[str, str], sequences: str
) -> None:
    terminal = Terminal(tmp_path, **environ)
    try:
        view = terminal.until("notes")
        assert not re.search(sequences, view)
    finally:
        terminal.close()
