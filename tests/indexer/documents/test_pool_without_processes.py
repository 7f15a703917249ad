"""The ladder: what the pool does when its processes do not start, and how it says so."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hostile import HOSTILE, described, mail, script, still_well

from indexer.documents.pool import ParsersUnavailable, open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.documents.worker_protocol import encode_frame
from indexer.errors import ParseFailed

pytestmark = pytest.mark.slow

QUICK = PoolTiming(ready=30, attempts=3, pause=0.01, idle=60)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
            with pytest.raises(ParsersUnavailable, match=r"exit code 3.*no parser here"):
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


async def test_a_worker_of_another_version_is_given_up_and_told(tmp_path: Path) -> None:
    greeting = encode_frame({"ready": True, "pid": 1, "network": "blocked", "missing": []})
    (tmp_path / "greeting").write_bytes(greeting)
    other = script(tmp_path / "other", f"#!/bin/sh\ncat '{tmp_path / 'greeting'}'\nexec sleep 600\n")
    with anyio.fail_after(40):
        async with open_parsers(interpreter=other, timing=QUICK) as parsers:
            with pytest.raises(ParsersUnavailable, match=r"another version .'steps' is missing.; restart the server"):
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
