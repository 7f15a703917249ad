"""The parser pool with real processes: whatever a file does, it costs that one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from hostile import HOSTILE, described, gone, mail, script, still_well

from indexer.documents.confinement import REFUSALS
from indexer.documents.parse import ParseLimits
from indexer.documents.pool import open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.errors import ParseFailed, ParseSkipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

QUICK = PoolTiming(ready=30, attempts=3, pause=0.01, idle=60)
SHORT = ParseLimits(seconds=0.5, seconds_per_mb=0, memory_bytes=700 << 20)


@pytest.fixture
def anyio_backend() -> str:
    """One event loop: starting processes is what takes the time here; one test runs on both."""
    return "asyncio"


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    return script(tmp_path / "hostile-python", HOSTILE)


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
    if sys.platform == "linux" and not status.limits_missing:
        assert set(status.refused) == set(REFUSALS)
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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hand a parent's peak on")
def test_a_worker_does_not_count_the_memory_of_the_process_that_started_it() -> None:
    grown = "held = b'x' * 400_000_000; import subprocess, sys; "
    asked = "from indexer.documents.worker import _peak_memory; print(_peak_memory())"
    script = f"{grown}sys.exit(subprocess.run([sys.executable, '-c', {asked!r}], close_fds=False).returncode)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 0 < int(done.stdout) < 200_000_000
