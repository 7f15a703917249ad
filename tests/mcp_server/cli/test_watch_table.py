"""The picture of one moment, character by character, at the widths terminals have."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import FAILED, HOME, NOTHING, NOW, STATUS
from rich.console import Console

from indexer.slot.slot_types import ModelStatus
from indexer.status_types import Status
from mcp_server.cli.watch import MAX_SENTENCE, has_running_time, percent, status_table

ROOT = Path(__file__).resolve().parents[3]
WIDE = """\
folder-mcp  0.1.0, serving
Search      keyword serving, semantic degraded
Model       all-MiniLM-L6-v2 (onnx on cpu), ready
            indexing for 0:07
            waiting: 1 search, 1 indexing job
            stays loaded for 4:09
Speed       17.6 passages/s embedded

Folder                      State       Files         Embedded
~/work/reports of the year  embedding   417/505 83 %  1,650/5,000 33 %
                            3 min left
~/notes                     ready       1,204         10,880

Not searchable: 2 failed, 15 skipped (all of them: folder-mcp status -v, or
folder-mcp ui)
~/work/reports of the year/q3.pdf: password-protected
~/work/reports of the year/<b>x</b>.docx: damaged: no document.xml

Index       15,880 passages, 48.3 MB on disk, last compaction 3 min ago, 412.0
            MB of memory
Clients     process 5001, connected 10 min ago, searches ~/notes
            process 5002, connected just now, searches all folders; read another
            configuration, which is not in use
"""
NARROW = """\
folder-mcp  0.1.0, serving
Search      keyword serving, semantic
            degraded
Model       all-MiniLM-L6-v2 (onnx on
            cpu), ready
            indexing for 0:07
            waiting: 1 search, 1
            indexing job
            stays loaded for 4:09
Speed       17.6 passages/s embedded

Folder       State       Files  Embedded
~/work/repo  embedding   83 %   33 %
rts of the   3 min left
year
~/notes      ready       1,204  10,880
"""


def shown(status: Status, width: int, now: float = NOW, *, encoding: str = "utf-8") -> str:
    """What a terminal without colours shows, every line as it came out."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=stream, width=width, force_terminal=False, color_system=None)
    console.print(status_table(status, now, width, HOME), crop=False)
    stream.flush()
    stream.seek(0)
    return "\n".join(line.rstrip() for line in stream.read().split("\n"))


@pytest.mark.parametrize(("width", "expected"), [(80, WIDE), (40, NARROW)])
def test_a_moment_looks_like_this(width: int, expected: str) -> None:
    assert shown(STATUS, width).startswith(expected)


def test_the_documentation_shows_this_moment() -> None:
    assert f"```text\n{WIDE}```\n" in (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")


def test_a_wide_terminal_has_a_bar_that_is_full_only_when_all_is_embedded() -> None:
    done, busy = STATUS.folders
    for coverage, cells in ((0.0, 0), (0.5, 8), (0.999, 15), (1.0, 16)):
        status = replace(STATUS, folders=(replace(busy, coverage=coverage),))
        assert shown(status, 100).count("━") == cells
    assert "━" not in shown(STATUS, 99)
    assert "-" * 16 in shown(replace(STATUS, folders=(done,)), 100, encoding="ascii")


@pytest.mark.parametrize("status", [STATUS, FAILED, NOTHING], ids=["busy", "failed", "nothing"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@settings(deadline=None)
@given(width=st.integers(24, 220))
def test_no_line_is_wider_than_the_terminal(status: Status, encoding: str, width: int) -> None:
    text = shown(status, width, encoding=encoding)  # a character that is not ASCII would end the latter
    assert max(map(len, text.split("\n"))) <= width


def test_the_time_a_model_stays_loaded_counts_down_and_ends() -> None:
    assert "stays loaded for 4:09" in shown(STATUS, 80)
    assert "stays loaded for 0:01" in shown(STATUS, 80, now=NOW + 248)
    assert "stays loaded" not in shown(STATUS, 80, now=NOW + 250)


def test_seconds_are_drawn_only_where_something_counts_them() -> None:
    assert has_running_time(STATUS, NOW) and has_running_time(FAILED, NOW)
    assert not has_running_time(NOTHING, NOW)
    resting = replace(STATUS, slot=replace(STATUS.slot, holder=None, queue=NOTHING.slot.queue))
    assert has_running_time(resting, NOW) and not has_running_time(resting, NOW + 250)


def test_a_model_on_its_way_in_is_shown_with_its_stage() -> None:
    slot = replace(NOTHING.slot, state="loading", requested="minilm", stage="weights", progress=0.4)
    assert "Model       minilm, loading weights 40 %\n" in shown(replace(STATUS, slot=slot), 80)


def test_a_failure_is_told_with_its_remedy_and_the_next_attempt() -> None:
    text = shown(FAILED, 80)
    assert "all-MiniLM-L6-v2: The model could not be fetched." in text
    assert "Look at the connection. Next attempt in 0:12." in text


def test_what_is_wrong_with_a_folder_or_the_index_is_said() -> None:
    waiting = replace(STATUS.folders[0], state="blocked", detail="waits for the model", advice=("use another",))
    index = replace(STATUS.index, state="disk_full", remedy="make room", last_error="no space left")
    text = shown(replace(STATUS, folders=(waiting,), index=index), 80)
    assert "~/notes: waits for the model\n~/notes: use another\n" in text
    assert "disk full; make room\n            no space left\n" in text


def test_failed_files_are_named_with_their_reason_and_their_names_stay_text() -> None:
    status = replace(STATUS, folders=(replace(STATUS.folders[1], path="/x/\x1b[31mred\n", detail="\x1b]0;t\x07"),))
    text = shown(status, 80)
    assert "~/work/reports of the year/<b>x</b>.docx: damaged: no document.xml" in text
    assert "\x1b" not in text and "\x07" not in text and "/x/[31mred" in text
    assert "[/x]" in shown(replace(STATUS, folders=(replace(STATUS.folders[1], path="/y/[/x]"),)), 80)


def test_hostile_names_of_models_and_clients_stay_text_and_long_errors_are_cut() -> None:
    slot = replace(STATUS.slot, model=ModelStatus("[red]\x1b[2J", "key", 3, "onnx", "cpu", "f32"))
    relay = replace(STATUS.owner.relays[0], folders=("/a\u202eb",))
    index = replace(STATUS.index, last_error="x" * 5000)
    text = shown(replace(STATUS, slot=slot, owner=replace(STATUS.owner, relays=(relay,)), index=index), 200)
    assert "[red][2J (onnx on cpu)" in text and "searches /ab\n" in text
    assert "\x1b" not in text and text.count("x" * 20) < MAX_SENTENCE / 20 + 1 and "x..." in text


@given(st.floats(0, 1))
def test_a_share_is_all_or_nothing_only_when_it_is(share: float) -> None:
    assert (percent(share) == "100 %") == (share >= 1)
    assert (percent(share) == "0 %") == (share <= 0)
