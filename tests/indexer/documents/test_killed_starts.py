"""Parser processes that are killed while they start: at every stage the file is read all the same, none is left."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import psutil
import pytest
from hostile import HOSTILE, mail, script, still_well

from indexer.documents.pool import ParserDied, open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.documents.worker_protocol import Message, encode_frame

pytestmark = pytest.mark.slow

QUICK = PoolTiming(ready=30, attempts=3, pause=0.01, idle=60)

# The first ``times`` starts end by a signal nobody can catch: before Python's own start, with the libraries half
# loaded, in the middle of the ready frame, and right behind it.
DYING = """
times = {times}
def die():
    if started <= times:
        os.kill(os.getpid(), signal.SIGKILL)
stage = {stage!r}
if stage == "loading":
    die()
can_import, sends = worker._can_import, worker._send
def killed_import(name):
    if stage == "libraries" and name == worker._LIBRARIES[0]:
        die()
    return can_import(name)
def killed_send(stream, message):
    if stage == "half a greeting" and "ready" in message:
        whole = worker.worker_protocol.encode_frame(message)
        stream.write(whole[: len(whole) // 2])
        stream.flush()
        die()
        stream.write(whole[len(whole) // 2 :])
        return stream.flush()
    sends(stream, message)
    if stage == "greeted" and "ready" in message:
        die()
worker._can_import, worker._send = killed_import, killed_send
asked ="""
STAGES = ("loading", "libraries", "half a greeting")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def dying(folder: Path, stage: str, times: int) -> str:
    body = DYING.format(stage=stage, times=times)
    assert "\nasked =" in HOSTILE
    return script(folder / "dying-python", HOSTILE.replace("\nasked =", body, 1))


def children() -> list[int]:
    """Processes of ours that live or that nobody has waited for."""
    return [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.mark.parametrize("stage", STAGES)
async def test_a_process_killed_twice_while_it_starts_costs_no_file(tmp_path: Path, stage: str) -> None:
    before = children()
    with anyio.fail_after(60):
        async with open_parsers(interpreter=dying(tmp_path, stage, 2), timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            status = parsers.status()
            assert (status.state, status.step, status.restarts) == ("running", "pool", 0)
            assert [c.text for c in status.last_errors if "signal 9" in c.text]
            assert len(set(children()) - set(before)) == 1
    assert children() == before


@pytest.mark.parametrize("stage", STAGES)
async def test_a_process_killed_at_every_attempt_leaves_one_a_file_and_then_the_pool_again(
    tmp_path: Path, stage: str
) -> None:
    timing = PoolTiming(ready=30, attempts=2, pause=0.01, idle=60, retry=0)
    with anyio.fail_after(60):
        async with open_parsers(interpreter=dying(tmp_path, stage, 2), timing=timing) as parsers:
            await still_well(parsers, tmp_path)  # two starts killed; then a process for this file alone
            assert parsers.status().step == "process per file"
            assert parsers.status().remedy
            await still_well(parsers, tmp_path)
            assert (parsers.status().step, parsers.status().state) == ("pool", "running")


async def test_a_process_killed_as_soon_as_it_is_ready_costs_one_reading_and_a_respawn(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with open_parsers(interpreter=dying(tmp_path, "greeted", 1), timing=QUICK) as parsers:
            with pytest.raises(ParserDied, match="signal 9"):
                await parsers.parse(mail(tmp_path, "letter"))
            await still_well(parsers, tmp_path)
            assert (parsers.status().restarts, parsers.status().step) == (1, "pool")


async def test_cancelling_a_start_leaves_no_process(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    mute = script(tmp_path / "mute", f"#!/bin/sh\necho x > {started}\nexec sleep 600\n")
    before = children()
    with anyio.fail_after(60):
        async with open_parsers(interpreter=mute, timing=QUICK) as parsers, anyio.create_task_group() as tasks:
            tasks.start_soon(parsers.parse, mail(tmp_path, "letter"))
            await anyio.to_thread.run_sync(started.read_text)
            assert len(children()) == len(before) + 1
            tasks.cancel_scope.cancel()
        assert parsers.status().pids == ()
    assert children() == before


async def test_cancelling_the_search_for_limits_that_a_library_bears_leaves_no_process(tmp_path: Path) -> None:
    started, greeting = tmp_path / "started", tmp_path / "greeting"
    os.mkfifo(started)
    said: Message = {"ready": True, "pid": 1, "steps": [], "unavailable": {}, "refused": [], "missing": []}
    greeting.write_bytes(encode_frame(said | {"failing": ["xberg"], "can_chunk": True}))
    with_less = f'case "$*" in *--without*) echo x > {started};; *) cat {greeting};; esac'
    picky = script(tmp_path / "picky", f"#!/bin/sh\n{with_less}\nexec sleep 600\n")
    before = children()
    with anyio.fail_after(60):
        async with open_parsers(interpreter=picky, timing=QUICK) as parsers, anyio.create_task_group() as tasks:
            tasks.start_soon(parsers.parse, mail(tmp_path, "letter"))
            await anyio.to_thread.run_sync(started.read_text)
            assert len(children()) == len(before) + 2
            tasks.cancel_scope.cancel()
    assert children() == before
