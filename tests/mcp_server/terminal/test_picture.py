"""The picture of one moment, character by character, at the widths terminals have."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moments import FAILED, HISTORY, HOME, NOTHING, NOW, STATUS
from rich.console import Console

from indexer.history import History, SlotChange
from indexer.status import Status
from mcp_server.terminal.picture import picture
from mcp_server.terminal.slot import counts
from mcp_server.terminal.strips import Glyphs, states_between

WIDE = """\
folder-mcp 0.1.0                                                         serving
  by word serving   by meaning degraded

Folders
  ~/work/reports of the year                              embedding · 3 min left
    by word    ━━━━━━━━━━━━━━━━━━────  83 %  417 of 505 files
    by meaning ━━━━━━━───────────────  33 %  1,650 of 5,000 passages
✓ ~/notes                                                                  ready
    1,204 files · 10,880 passages

Model                                                                      ready
  all-MiniLM-L6-v2 · onnx on cpu
  used by indexing for 0:07
  waiting: 1 search and 1 indexing job
  warm for searches ━━━━━━━━── 4:09 left
  ──────────────────────────────────────────────▒███████████████████████████████
  10 min ago               ─ idle  █ ready  ▒ loading                        now
"""
NARROW = """\
folder-mcp 0.1.0                 serving
  by word serving   by meaning degraded

Folders
  ~/work/reports of the year   embedding
    by word    ━━━━━━━━━━──  83 %
               417 of 505 files
    by meaning ━━━━────────  33 %
               1,650 of 5,000 passages
✓ ~/notes                          ready
    1,204 files · 10,880 passages

Model                              ready
  all-MiniLM-L6-v2 · onnx on cpu
"""


def shown(status: Status, width: int, history: History = HISTORY, now: float = NOW, *, plain: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    for line in picture(status, history, now, width, home=HOME, plain=plain):
        console.print(line, overflow="ignore", no_wrap=True, crop=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().split("\n"))


@pytest.mark.parametrize(("width", "expected"), [(80, WIDE), (40, NARROW)])
def test_a_moment_looks_like_this(width: int, expected: str) -> None:
    assert shown(STATUS, width).startswith(expected)


@pytest.mark.parametrize("status", [STATUS, FAILED, NOTHING], ids=["busy", "failed", "nothing"])
@pytest.mark.parametrize("plain", [False, True])
@given(width=st.integers(24, 220))
def test_no_line_is_wider_than_the_terminal(status: Status, plain: bool, width: int) -> None:
    assert max(map(len, shown(status, width, plain=plain).split("\n"))) <= width


@pytest.mark.parametrize("status", [STATUS, FAILED, NOTHING], ids=["busy", "failed", "nothing"])
def test_a_terminal_of_ascii_is_given_ascii(status: Status) -> None:
    assert shown(status, 80, plain=True).isascii()


def test_the_warm_window_counts_down_and_ends() -> None:
    assert "4:09 left" in shown(STATUS, 80)
    assert "0:01 left" in shown(STATUS, 80, now=NOW + 248)
    assert "left" not in shown(STATUS, 80, now=NOW + 250).split("Model")[1].split("Embedded")[0]


def test_seconds_are_drawn_only_where_something_counts_them() -> None:
    assert counts(STATUS, NOW) and counts(FAILED, NOW)
    assert not counts(NOTHING, NOW)
    resting = replace(STATUS, slot=replace(STATUS.slot, holder=None, queue=NOTHING.slot.queue))
    assert counts(resting, NOW) and not counts(resting, NOW + 250)


def test_a_failure_is_told_with_its_remedy_and_the_next_attempt() -> None:
    text = shown(FAILED, 80)
    assert "all-MiniLM-L6-v2: The model could not be fetched." in text
    assert "Look at the connection. · tried again in 0:12" in text


def test_failed_files_are_named_with_their_reason_and_their_names_stay_text() -> None:
    status = replace(STATUS, folders=(replace(STATUS.folders[1], path="/x/\x1b[31mred\n"),))
    text = shown(status, 80)
    assert "~/work/reports of the year/<b>x</b>.docx\n    damaged: no document.xml" in text
    assert "\x1b" not in text and "/x/[31mred" in text
    assert "[/x]" in shown(replace(STATUS, folders=(replace(STATUS.folders[1], path="/y/[/x]"),)), 80)


def test_a_short_load_is_seen_in_a_long_cell_and_the_time_before_the_start_is_blank() -> None:
    assert states_between(History(NOW, NOW), NOW - 100, NOW, 3) == [None] * 3
    history = History(
        NOW, NOW - 60,
        (SlotChange(NOW - 60, "idle", ""), SlotChange(NOW - 31, "loading", "m"), SlotChange(NOW - 30.5, "ready", "m")),
    )  # fmt: skip
    states = states_between(history, NOW - 100, NOW, 10)
    assert states == [None] * 4 + ["idle"] * 2 + ["loading"] + ["ready"] * 3


@given(st.floats(0, 1), st.integers(2, 60))
def test_a_bar_is_full_only_when_all_is_done(share: float, width: int) -> None:
    bar = Glyphs().bar(share, width, "").plain
    assert len(bar) == width
    assert (bar == "━" * width) == (share >= 1)
    assert (bar == "─" * width) == (share <= 0)
