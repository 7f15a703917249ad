"""The record: what a line says, how long it is kept, what becomes of it under kills, full disks and many writers."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from indexer.config import RecordSettings
from indexer.errors import QueryError, StoreError
from mcp_server.record import record as module
from mcp_server.record.reading import RecordReading, last_answers
from mcp_server.record.record import DIRECTORY, NO_RECORD, Asker, Record, files_of

DAY = 86_400.0
START = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
ADA = Asker("editor", "1.2", "ada")
CHILD = Path(__file__).resolve().parents[2] / "support" / "recording_child.py"


class Clock:
    """Virtual time of day."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at


def lines(data_dir: Path) -> list[dict[str, Any]]:
    return list(RecordReading(data_dir).lines())


def line(number: int, size: int = 0) -> dict[str, Any]:
    return {"at": "2026-11-28T12:00:00.000Z", "user": "ada", "number": number, "pad": "x" * size}


async def test_an_answer_is_a_line_that_says_who_was_shown_which_files(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordSettings(), now=lambda: START)
    async with record.answer(ADA, "search", query="the secret plan", asked=["/notes"]) as shown:
        shown.show(["/notes/a.md", "/notes/b\udcff.md", "/notes/a.md"], 3)
    [found] = lines(tmp_path)
    assert found.pop("ms") >= 0
    assert found == {
        "at": "2026-11-28T12:00:00.000Z",
        "client": "editor",
        "version": "1.2",
        "user": "ada",
        "tool": "search",
        "outcome": "ok",
        "files": ["/notes/a.md", "/notes/b\udcff.md"],
        "hits": 3,
    }
    [file] = files_of(tmp_path / DIRECTORY)
    assert file.name == "2026-11-28.jsonl"
    assert b"secret plan" not in file.read_bytes()


async def test_queries_are_written_where_the_settings_say_so(tmp_path: Path) -> None:
    async with Record(tmp_path, RecordSettings(queries=True)).answer(ADA, "search", query="the secret plan"):
        pass
    assert [found["query"] for found in lines(tmp_path)] == ["the secret plan"]


async def test_a_refusal_says_what_was_asked_for_and_an_error_what_it_was(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordSettings())
    for error in (QueryError("no such file"), StoreError("x", "damaged"), ValueError("x")):
        with pytest.raises(type(error)):
            async with record.answer(ADA, "read", asked=["/theirs/salaries.md"]) as shown:
                shown.show(["/theirs/salaries.md"])
                raise error
    assert [(found["outcome"], found["asked"]) for found in lines(tmp_path)] == [
        (outcome, ["/theirs/salaries.md"]) for outcome in ("refused", "StoreError", "ValueError")
    ]
    assert all("files" not in found for found in lines(tmp_path))


async def test_secrets_in_what_a_client_asks_for_are_blanked(tmp_path: Path) -> None:
    token = "gh" + "p_" + "a1B2" * 9
    record = Record(tmp_path, RecordSettings(queries=True))
    with pytest.raises(QueryError):
        async with record.answer(ADA, "read", query=f"what is {token}", asked=[f"/notes/{token}.md"]):
            raise QueryError("no such file")
    [found] = lines(tmp_path)
    assert (found["query"], found["asked"]) == ("what is [secret: GitHub token]", ["/notes/[secret: GitHub token].md"])


async def test_an_answer_that_was_cancelled_is_none(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordSettings())
    with anyio.CancelScope() as scope:
        async with record.answer(ADA, "search"):
            scope.cancel()
            await anyio.sleep_forever()
    assert lines(tmp_path) == []


async def test_nothing_is_written_where_nothing_is_indexed(tmp_path: Path) -> None:
    record = Record(tmp_path / "none", RecordSettings())
    async with record.answer(ADA, "search"):
        pass
    assert (list(tmp_path.iterdir()), record.problem) == ([], "")


@pytest.mark.parametrize("off", [NO_RECORD, "days"])
async def test_nothing_is_written_where_it_is_switched_off(tmp_path: Path, off: Any) -> None:
    record = Record(tmp_path, RecordSettings(days=0)) if off == "days" else off
    async with record.answer(ADA, "search"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_it_is_readable_by_the_user_alone(tmp_path: Path) -> None:
    Record(tmp_path, RecordSettings()).write(line(1))
    [file] = files_of(tmp_path / DIRECTORY)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_what_is_older_than_its_days_is_deleted_with_the_first_answer_of_a_day(tmp_path: Path) -> None:
    clock = Clock()
    record = Record(tmp_path, RecordSettings(days=30), clock)
    for _ in range(100):
        record.write(line(1))
        clock.at += DAY
    clock.at -= DAY
    names = [file.name for file in files_of(tmp_path / DIRECTORY)]
    last = datetime.fromtimestamp(clock.at, UTC).date()
    assert len(names) == 31
    assert names[-1] == f"{last}.jsonl"
    assert (last - datetime.fromisoformat(names[0][:10]).date()).days == 30


def test_a_full_file_is_renamed_and_the_oldest_go_when_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 10_000)
    monkeypatch.setattr(module, "MAX_ALL", 50_000)
    record = Record(tmp_path, RecordSettings(), lambda: START)
    for number in range(200):
        record.write(line(number, 900))
        total = sum(file.stat().st_size for file in files_of(tmp_path / DIRECTORY))
        assert total <= 50_000 + 10_000 + 1_000
    kept = [found["number"] for found in lines(tmp_path)]
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 45


def test_a_torn_line_and_garbage_are_skipped_and_cost_no_other_line(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordSettings(), lambda: START)
    record.write(line(1))
    [file] = files_of(tmp_path / DIRECTORY)
    for garbage in (b'{"at":"2026-11-28T12:00', b"\xff\xfe\n[]\n{}\nnull\n1e999\n\n", b'{"at": 7}\n', b"[" * 100_000):
        with file.open("ab") as stream:
            stream.write(garbage)
        record.write(line(2))
    reading = RecordReading(tmp_path)
    assert [found["number"] for found in reading.lines()] == [1, 2, 2, 2, 2]
    assert reading.unreadable == 8


def test_a_long_answer_is_cut_and_counted(tmp_path: Path) -> None:
    Record(tmp_path, RecordSettings()).write({**line(1), "files": [f"/{'x' * 4000}/{n}" for n in range(50)]})
    [found] = lines(tmp_path)
    assert 0 < len(found["files"]) < 50
    assert len(found["files"]) + found["files_left_out"] == 50


def test_a_directory_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordSettings(), lambda: START)
    record.write(line(1))
    for file in files_of(tmp_path / DIRECTORY):
        file.unlink()
    (tmp_path / DIRECTORY).rmdir()
    record.write(line(2))
    assert [found["number"] for found in lines(tmp_path)] == [2]


async def test_a_record_that_cannot_be_written_costs_no_answer_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DIRECTORY).write_text("a file in its place", encoding="utf-8")
    record = Record(tmp_path, RecordSettings())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            async with record.answer(ADA, "search") as shown:
                shown.show(["/notes/a.md"], 1)
    assert "cannot be written" in record.problem
    assert len(caplog.records) == 1
    (tmp_path / DIRECTORY).unlink()
    async with record.answer(ADA, "search"):
        pass
    assert record.problem == ""
    assert len(lines(tmp_path)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path, RecordSettings())
    monkeypatch.setattr(module, "_open", lambda file: os.open("/dev/full", os.O_RDWR))
    record.write(line(1))
    assert "No space left on device" in record.problem


async def test_a_disk_that_hangs_holds_no_answer_up_and_only_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_S", 0.05)
    goes_on, went_on, hanging = threading.Event(), threading.Event(), []
    record = Record(tmp_path, RecordSettings())

    def hang(file: Path) -> int:
        hanging.append(file)
        assert goes_on.wait(30)
        went_on.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_open", hang)
        with anyio.fail_after(20):
            for _ in range(5):
                async with record.answer(ADA, "search"):
                    pass
            assert (len(hanging), "took more than" in record.problem) == (1, True)
            goes_on.set()
            await anyio.to_thread.run_sync(went_on.wait)
            while record._writing:
                await anyio.sleep(0.01)
    async with record.answer(ADA, "search"):
        pass
    assert (len(lines(tmp_path)), record.problem) == (1, "")


def test_the_last_answer_of_each_user_is_known(tmp_path: Path) -> None:
    clock = Clock()
    record = Record(tmp_path, RecordSettings(), clock)
    for user, at in (("ada", 0), ("ben", 1), ("ada", 2)):
        record.write({"at": module._timestamp(START + at), "user": user})
    assert last_answers(tmp_path) == {"ada": START + 2, "ben": START + 1}


# Processes ----------------------------------------------------------------------------------------------------------


def child(data_dir: Path, name: str, count: int, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(data_dir), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)


@pytest.mark.slow
def test_eight_processes_write_at_once_and_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    writers = [child(tmp_path, f"w{number}", 300) for number in range(8)]
    assert [writer.wait(100) for writer in writers] == [0] * 8
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
    reading = RecordReading(tmp_path)
    found = Counter((one["client"], one["number"]) for one in reading.lines())
    assert reading.unreadable == 0
    assert found == Counter({(f"w{number}", each): 1 for number in range(8) for each in range(300)})


@pytest.mark.slow
def test_a_killed_writer_leaves_all_lines_before_its_last(tmp_path: Path) -> None:
    for round_number in range(10):
        with child(tmp_path, f"r{round_number}", -1) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == "begun\n"
            writer.kill()
    reading = RecordReading(tmp_path)
    found = list(reading.lines())
    for round_number in range(10):
        numbers = [one["number"] for one in found if one["client"] == f"r{round_number}"]
        assert numbers and numbers == list(range(len(numbers)))
    assert reading.unreadable <= 10


@pytest.mark.slow
def test_a_writer_that_may_write_no_more_goes_on_and_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the kernel writes a part of a line, then nothing."""

    def limited() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    with child(tmp_path, "w", 50, preexec_fn=limited) as writer:
        assert writer.wait(60) == 0
    with child(tmp_path, "after", 3) as after:
        assert after.wait(60) == 0
    reading = RecordReading(tmp_path)
    found = [(one["client"], one["number"]) for one in reading.lines()]
    assert found[-3:] == [("after", 0), ("after", 1), ("after", 2)]
    assert found[:3] == [("w", 0), ("w", 1), ("w", 2)]
    assert reading.unreadable <= 1


def test_lines_are_json_for_any_program(tmp_path: Path) -> None:
    Record(tmp_path, RecordSettings(), lambda: START).write({**line(1), "files": ["/\udcff\n\u2028é"]})
    [file] = files_of(tmp_path / DIRECTORY)
    [written] = file.read_bytes().splitlines()
    assert written.isascii()
    assert json.loads(written)["files"] == ["/\udcff\n\u2028é"]
