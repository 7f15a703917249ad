"""The parser pool with real processes: whatever a file does, it costs that one file, and the ladder is shown."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import anyio
import pytest

from indexer.errors import ParseFailed, ParseSkipped
from indexer.text.parse import ParseLimits
from indexer.text.pool import Parsers, ParsersUnavailable, open_parsers
from indexer.text.pool_status import PoolTiming
from indexer.types import File

ROOT = str(Path(__file__).parents[3])
QUICK = PoolTiming(ready=30, attempts=3, pause=0.01, idle=60)
SHORT = ParseLimits(seconds=0.5, seconds_per_mb=0, memory_bytes=700 << 20)

# The real worker, whose parser does what a file's name says: stands for a library's crash, hang or leak.
HOSTILE = f"""#!{sys.executable}
import os, sys, signal, time, socket, subprocess
sys.path.insert(0, {ROOT!r})
from indexer.text import worker
real = worker.parse_here
def hostile(path, limits):
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
    if name.startswith("odd"):
        raise LookupError("something nobody thought of")
    return real(path, limits)
worker.parse_here = hostile
worker._LIBRARIES = ("charset_normalizer",)
worker.main(sys.argv[sys.argv.index("indexer.text.worker") + 1:])
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


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    return script(tmp_path / "hostile-python", HOSTILE)


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


async def test_a_document_comes_back_with_its_hash_and_the_plain_file_starts_no_process(tmp_path: Path) -> None:
    import hashlib

    file = mail(tmp_path, "letter")
    note = tmp_path / "note.md"
    note.write_text("# Hi\n\nthere\n", encoding="utf-8")
    with anyio.fail_after(40):
        async with open_parsers() as parsers:
            plain = await parsers.parse(described(note))
            assert (plain.document.syntax, parsers.status().state) == ("markdown", "stopped")
            parsed = await parsers.parse(file)
            status = parsers.status()
    assert parsed.sha256 == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
    assert (parsed.size, parsed.mtime_ns) == (file.size, file.mtime_ns)
    assert parsed.document.title == "hello"
    assert (status.state, status.step, status.workers, status.busy, status.missing) == ("running", "pool", 1, 0, ())
    assert status.network in ("namespace", "blocked")
    assert status.interpreter == sys.executable


async def test_a_crash_costs_one_file_and_one_respawn(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            with pytest.raises(ParseFailed, match=r"crashed on this file \(signal 11\).*library broke"):
                await parsers.parse(mail(tmp_path, "crash"))
            await still_well(parsers, tmp_path)
            status = parsers.status()
    assert (status.restarts, status.state) == (1, "running")
    assert any("library broke" in c.text for c in status.last_errors)


async def test_a_hang_is_ended_at_its_limit(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK, limits=SHORT) as parsers:
            with pytest.raises(ParseFailed, match="took longer than the limit"):
                await parsers.parse(mail(tmp_path, "hang"))
            await still_well(parsers, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits of processes are enforced on Linux")
async def test_a_memory_bomb_is_stopped_and_names_the_limit(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        limits = ParseLimits(memory_bytes=700 << 20)
        async with open_parsers(interpreter=hostile, timing=QUICK, limits=limits) as parsers:
            with pytest.raises(ParseFailed, match="more memory than the limit of 734 MB"):
                await parsers.parse(mail(tmp_path, "bomb"))
            assert parsers.status().restarts == 1
            await still_well(parsers, tmp_path)


async def test_prints_of_libraries_do_not_break_the_protocol(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            await parsers.parse(mail(tmp_path, "noise"))
            await still_well(parsers, tmp_path)
            pid = parsers.status().pids[0]
            os.kill(pid, signal.SIGKILL)
            await gone(pid)
            await still_well(parsers, tmp_path)
            assert any("odd font" in c.text for c in parsers.status().warnings)


@pytest.mark.parametrize("name", ["net", "child"])
async def test_a_parser_reaches_neither_the_network_nor_other_programs(
    tmp_path: Path, hostile: str, name: str
) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            with pytest.raises(ParseFailed, match="PermissionError"):
                await parsers.parse(mail(tmp_path, name))
            await still_well(parsers, tmp_path)
            assert parsers.status().restarts == 0


async def test_an_unforeseen_error_of_a_parser_is_the_files_reason(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            with pytest.raises(ParseFailed, match="LookupError: something nobody thought of"):
                await parsers.parse(mail(tmp_path, "odd"))
            await still_well(parsers, tmp_path)


async def test_a_worker_killed_in_the_middle_of_a_file_fails_that_file_only(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            pid = parsers.status().pids[0]
            failures: list[str] = []

            async def parse() -> None:
                with pytest.raises(ParseFailed) as caught:
                    await parsers.parse(mail(tmp_path, "hang"))
                failures.append(str(caught.value))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(parse)
                await anyio.wait_all_tasks_blocked()
                os.kill(pid, signal.SIGKILL)
            assert "signal 9" in failures[0]
            await still_well(parsers, tmp_path)


async def test_cancelling_a_parse_kills_its_process(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            pid = parsers.status().pids[0]
            with anyio.move_on_after(0.05):
                await parsers.parse(mail(tmp_path, "hang"))
            await gone(pid)
            assert parsers.status().workers == 0
            await still_well(parsers, tmp_path)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for the end of a process by its descriptor")
async def test_an_idle_worker_ends_and_the_next_file_starts_one(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=PoolTiming(idle=0.01)) as parsers:
            parsed = parsers.parse(mail(tmp_path, "first"))
            await parsed
            for pid in parsers.status().pids:
                await gone(pid)
            assert parsers.status().restarts == 0
            await still_well(parsers, tmp_path)


async def test_no_process_outlives_the_pool(tmp_path: Path, hostile: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK, workers=2) as parsers:
            async with anyio.create_task_group() as tasks:
                for n in range(6):
                    tasks.start_soon(parsers.parse, mail(tmp_path, f"m{n}"))
            pids = parsers.status().pids
            assert len(pids) == 2
        for pid in pids:
            await gone(pid)


async def test_a_missing_interpreter_names_every_place_and_plain_text_goes_on(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("plain words", encoding="utf-8")
    with anyio.fail_after(40):
        async with open_parsers(interpreter=str(tmp_path / "nowhere")) as parsers:
            with pytest.raises(ParsersUnavailable, match=r"nowhere, .*nowhere.bin.python3"):
                await parsers.parse(mail(tmp_path, "letter"))
            assert (await parsers.parse(described(note))).document.units[0].text == "plain words"
            status = parsers.status()
    assert (status.state, status.step) == ("unavailable", "plain text only")
    assert "PYTHON_PATH" in status.remedy


async def test_three_failed_starts_go_down_the_ladder_with_their_errors_kept(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    broken = script(
        tmp_path / "broken", f"#!/bin/sh\necho x >> {starts}\necho 'ImportError: no parser here' >&2\nexit 3\n"
    )
    with anyio.fail_after(40):
        async with open_parsers(interpreter=broken, timing=QUICK) as parsers:
            with pytest.raises(ParsersUnavailable, match="exit code 3.*no parser here"):
                await parsers.parse(mail(tmp_path, "letter"))
            status = parsers.status()
            assert len(starts.read_text(encoding="utf-8").split()) == 3 + 1
            with pytest.raises(ParsersUnavailable):
                await parsers.parse(mail(tmp_path, "letter"))
            assert len(starts.read_text(encoding="utf-8").split()) == 3 + 1
    assert (status.state, status.step) == ("unavailable", "plain text only")
    assert sum("attempt" in c.text for c in status.last_errors) == 3
    assert broken in status.remedy


async def test_a_worker_that_never_says_ready_is_given_up(tmp_path: Path) -> None:
    mute = script(tmp_path / "mute", "#!/bin/sh\nexec sleep 600\n")
    timing = PoolTiming(ready=0.05, attempts=2, pause=0.01)
    with anyio.fail_after(40):
        async with open_parsers(interpreter=mute, timing=timing) as parsers:
            with pytest.raises(ParsersUnavailable, match="not ready within"):
                await parsers.parse(mail(tmp_path, "letter"))


async def test_when_long_lived_workers_do_not_start_each_file_gets_a_process(tmp_path: Path) -> None:
    only_once = HOSTILE.replace("import os,", "import sys\nif '--once' not in sys.argv: sys.exit(4)\nimport os,", 1)
    interpreter = script(tmp_path / "only-once", only_once)
    with anyio.fail_after(40):
        async with open_parsers(interpreter=interpreter, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            with pytest.raises(ParseFailed, match="signal 11"):
                await parsers.parse(mail(tmp_path, "crash"))
            await still_well(parsers, tmp_path)
            status = parsers.status()
    assert (status.state, status.step, status.workers) == ("degraded", "process per file", 0)
    assert "exit code 4" in status.detail
    assert status.remedy


async def test_the_pool_is_tried_again_after_a_while(tmp_path: Path) -> None:
    marker = tmp_path / "repaired"
    late = HOSTILE.replace(
        "import os,", f"import os.path\nif not os.path.exists({str(marker)!r}): sys.exit(4)\nimport os,", 1
    )
    late = late.replace("import os.path", "import sys, os.path", 1)
    interpreter = script(tmp_path / "late", late)
    timing = PoolTiming(attempts=1, pause=0.01, retry=0)
    with anyio.fail_after(40):
        async with open_parsers(interpreter=interpreter, timing=timing) as parsers:
            with pytest.raises(ParsersUnavailable):
                await parsers.parse(mail(tmp_path, "letter"))
            marker.touch()
            await still_well(parsers, tmp_path)
            assert (parsers.status().step, parsers.status().detail) == ("pool", "")


async def test_a_refused_file_is_skipped_with_its_reason(tmp_path: Path) -> None:
    limits = ParseLimits(max_bytes=10)
    with anyio.fail_after(40):
        async with open_parsers(limits=limits) as parsers:
            with pytest.raises(ParseSkipped, match="larger than the limit"):
                await parsers.parse(mail(tmp_path, "letter"))


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_pool_works_on_either_event_loop(tmp_path: Path, hostile: str, anyio_backend: str) -> None:
    with anyio.fail_after(40):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            with pytest.raises(ParseFailed, match="signal 11"):
                await parsers.parse(mail(tmp_path, "crash"))
            await still_well(parsers, tmp_path)


async def test_names_that_are_no_unicode_reach_the_worker(tmp_path: Path) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9 \n"quoted".eml')
    Path(place).write_text("Subject: odd name\n\nbody\n", encoding="utf-8")
    with anyio.fail_after(40):
        async with open_parsers() as parsers:
            assert (await parsers.parse(described(Path(place)))).document.title == "odd name"
