"""The open files that parser processes get: whatever is swapped, they read what was opened, and nothing leaks."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hostile import HOSTILE, described, mail, script, still_well
from opening import BOTH_WAYS, device, open_descriptors, with_way

from indexer.documents.parse import FileReplaced, ParseLimits
from indexer.documents.pool import ParserDied, Parsers, ParsersUnavailable, open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.documents.worker_protocol import CAN_PASS_DESCRIPTORS, receive_descriptors, send_descriptors
from indexer.errors import ParseFailed

pytestmark = pytest.mark.skipif(not CAN_PASS_DESCRIPTORS, reason="this system does not hand open files over")

QUICK = PoolTiming(ready=30, attempts=2, pause=0.01, idle=60)
SHORT = ParseLimits(seconds=0.5, seconds_per_mb=0, memory_bytes=700 << 20)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BOTH_WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return with_way(request.param, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("a.md", "a.eml"):
        (tmp_path / "outside" / name).write_text("Subject: x\n\nquetzal outside\n", encoding="utf-8")
    return tmp_path / "folder"


PUT: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda place, target: place.symlink_to(target),
    "FIFO": lambda place, _: os.mkfifo(place),
    "device": device,
    "directory": lambda place, _: place.mkdir(),
}


@pytest.mark.slow
async def test_whatever_replaces_a_file_between_scan_and_reading_is_not_read(folder: Path, way: str) -> None:
    with anyio.fail_after(60):
        async with open_parsers(timing=QUICK) as parsers:
            for name in ("a.md", "a.eml"):
                for put, replace in PUT.items():
                    place = folder / "sub" / name
                    place.write_text("Subject: x\n\ninside\n", encoding="utf-8")
                    file = described(place)._replace(folder=str(folder))
                    place.unlink()
                    replace(place, folder.parent / "outside" / name)
                    with pytest.raises(FileReplaced):
                        await parsers.parse(file)
                    place.rmdir() if put == "directory" else place.unlink()


@pytest.mark.slow
async def test_a_directory_or_root_replaced_by_a_link_is_not_read_through(folder: Path, way: str) -> None:
    with anyio.fail_after(60):
        async with open_parsers(timing=QUICK) as parsers:
            for replaced in (folder / "sub", folder):
                for name in ("a.md", "a.eml"):
                    place = folder / "sub" / name
                    place.write_text("Subject: x\n\ninside\n", encoding="utf-8")
                    file = described(place)._replace(folder=str(folder))
                    replaced.rename(folder.parent / "kept")
                    replaced.symlink_to(folder.parent / "outside")
                    with pytest.raises(FileReplaced, match="link"):
                        await parsers.parse(file)
                    replaced.unlink()
                    (folder.parent / "kept").rename(replaced)


@pytest.mark.slow
async def test_a_hard_link_in_a_files_place_is_read_as_another_version(folder: Path, way: str) -> None:
    with anyio.fail_after(60):
        async with open_parsers(timing=QUICK) as parsers:
            for name in ("a.md", "a.eml"):
                place, target = folder / "sub" / name, folder.parent / "outside" / name
                place.write_text("Subject: x\n\nlantern inside!\n", encoding="utf-8")
                assert place.stat().st_size == target.stat().st_size
                os.utime(place, ns=(0, target.stat().st_mtime_ns))
                file = described(place)._replace(folder=str(folder))
                place.unlink()
                os.link(target, place)
                parsed = await parsers.parse(file)
                assert "quetzal" in parsed.document.units[0].text
                assert (parsed.size, parsed.mtime_ns) == (file.size, file.mtime_ns)
                assert parsed.inode == -target.stat().st_ino != file.inode


READS_AND_TELLS = """
import os, socket, sys
from indexer.documents.worker_protocol import receive_descriptors
channel = socket.socket(fileno=int(sys.argv[1]))
with receive_descriptors(channel)[0] as source:
    print(os.get_inheritable(source.fileno()), source.readall().decode())
"""


@pytest.mark.slow
async def test_a_process_reads_the_file_that_was_opened_whatever_has_its_name_by_then(tmp_path: Path) -> None:
    place = tmp_path / "a.md"
    place.write_text("inside", encoding="utf-8")
    ours, theirs = socket.socketpair()
    with ours, theirs, place.open("rb") as opened:
        send_descriptors(ours, [opened.raw])
        place.unlink()
        place.symlink_to("/etc/hostname")
        command = [sys.executable, "-c", READS_AND_TELLS, str(theirs.fileno())]
        done = await anyio.run_process(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[3])
    assert done.stdout.decode() == "False inside\n"


def test_a_request_without_a_file_is_an_error_and_not_an_empty_file() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(b"f")
            with pytest.raises(ConnectionError, match="no file came"):
                receive_descriptors(theirs)
        with pytest.raises(ConnectionError):
            receive_descriptors(theirs)


def test_a_process_that_has_ended_is_an_error_and_the_caller_keeps_its_file(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    before = open_descriptors()
    with ours, (tmp_path / "a").open("wb") as opened, pytest.raises(OSError):
        send_descriptors(ours, [opened.raw])
    assert open_descriptors() == before - 1


@pytest.mark.slow
async def test_no_way_of_failing_leaves_a_descriptor_open(tmp_path: Path) -> None:
    hostile = script(tmp_path / "hostile-python", HOSTILE)

    async def all_failures() -> None:
        async with open_parsers(interpreter=hostile, timing=QUICK, limits=SHORT, workers=2) as parsers:
            await still_well(parsers, tmp_path)
            for name, error in (("crash", ParserDied), ("hang", ParserDied), ("odd", ParseFailed)):
                with pytest.raises(error):
                    await parsers.parse(mail(tmp_path, name))
            gone = mail(tmp_path, "gone")
            Path(gone.path).unlink()
            with pytest.raises(ParseFailed, match="gone"):
                await parsers.parse(gone)
            async with anyio.create_task_group() as tasks:  # cancelled while the process reads
                tasks.start_soon(parsers.parse, mail(tmp_path, "hang"))
                while not parsers.status().busy:
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await still_well(parsers, tmp_path)
        nowhere = str(tmp_path / "nowhere")
        async with open_parsers(interpreter=nowhere, timing=QUICK) as parsers:
            with pytest.raises(ParsersUnavailable):
                await parsers.parse(mail(tmp_path, "letter"))
        mute = script(tmp_path / "mute", "#!/bin/sh\nexit 3\n")
        async with open_parsers(interpreter=mute, timing=QUICK) as parsers:
            with pytest.raises(ParsersUnavailable):
                await parsers.parse(mail(tmp_path, "letter"))

    with anyio.fail_after(90):
        await all_failures()  # the event loop opens what it keeps
        before = open_descriptors()
        await all_failures()
        assert open_descriptors() == before


@pytest.mark.slow
async def test_a_process_that_is_killed_between_request_and_answer_leaves_no_descriptor(tmp_path: Path) -> None:
    hostile = script(tmp_path / "hostile-python", HOSTILE)
    with anyio.fail_after(60):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            before = open_descriptors()
            for _ in range(3):
                with pytest.raises(ParserDied):
                    await parsers.parse(mail(tmp_path, "crash"))
                await still_well(parsers, tmp_path)
            assert open_descriptors() == before


@pytest.mark.slow
async def test_every_file_gets_its_own_text_when_many_are_read_at_once(tmp_path: Path) -> None:
    texts: dict[str, str] = {}

    async def read(parsers: Parsers, name: str) -> None:
        place = tmp_path / f"{name}.eml"
        place.write_text(f"Subject: {name}\n\nbody of {name}\n", encoding="utf-8")
        texts[name] = (await parsers.parse(described(place))).document.units[0].text

    with anyio.fail_after(60):
        async with open_parsers(timing=QUICK, workers=2) as parsers, anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(read, parsers, f"n{number}")
    assert all(f"body of {name}\n" in f"{text}\n" for name, text in texts.items()) and len(texts) == 40
