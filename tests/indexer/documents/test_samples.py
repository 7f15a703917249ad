"""A process that tries its libraries under its limits: which limit one does not bear is left out, and said."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from hostile import HOSTILE, script, still_well

from indexer.documents import samples
from indexer.documents.pool import open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.documents.worker import _CHUNKING_LIBRARIES, _LIBRARIES

QUICK = PoolTiming(ready=30, attempts=1, pause=0.01, idle=60)

# A library that needs what one step refuses, and what it does then.
NEEDY = """
from indexer.documents import samples
def needy():
    {need}
samples._SAMPLES["charset_normalizer"] = needy
asked ="""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def needing(folder: Path, need: str) -> str:
    return script(folder / "needy-python", HOSTILE.replace("\nasked =", NEEDY.format(need=need), 1))


@pytest.mark.parametrize("library", [*_LIBRARIES, *samples._SAMPLES])
def test_each_sample_is_read_where_nothing_is_confined(library: str) -> None:
    assert samples.failing([library]) == ()


def test_every_library_that_reads_or_counts_has_a_sample() -> None:
    cut_together = {"Stemmer", "tree_sitter"}  # with the splitter, in one chunked document
    assert {*_LIBRARIES, *_CHUNKING_LIBRARIES} - set(samples._SAMPLES) == cut_together


def test_a_sample_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(samples._SAMPLES, "xberg", lambda: False)
    assert samples.failing(["xberg", "tokenizers"]) == ("xberg",)
    assert "xberg does not read its sample" in capsys.readouterr().err


NEEDS = {
    "reading": "return open('/etc/passwd').close() is None",
    "calls": "return os.memfd_create('x') > 0",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux offers limits that bind native code")
@pytest.mark.parametrize("step", ["reading", "calls"])
async def test_the_one_limit_that_a_library_does_not_bear_is_left_out_and_named(tmp_path: Path, step: str) -> None:
    with anyio.fail_after(60):
        async with open_parsers(interpreter=needing(tmp_path, NEEDS[step]), timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            status = parsers.status()
            if any("no Landlock" in each for each in status.limits_missing):
                pytest.skip("this kernel offers no Landlock")
            assert [each.split(":")[0] for each in status.limits_missing] == [step]
            assert any(f"without the limits {step}" in each.text for each in status.warnings)
            assert status.restarts == 0 and status.workers == 1
            assert "signals" in status.refused


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux offers limits that bind native code")
async def test_a_library_that_crashes_under_a_limit_is_served_without_it(tmp_path: Path) -> None:
    need = "return os.memfd_create('x') > 0 if _allowed() else os.abort()"
    made = needing(tmp_path, need.replace("_allowed()", "'calls' in sys.argv"))
    with anyio.fail_after(60):
        async with open_parsers(interpreter=made, timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            assert "calls: left out" in " ".join(parsers.status().limits_missing)


@pytest.mark.slow
async def test_a_library_that_fails_whatever_is_left_out_keeps_every_limit_and_is_named(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with open_parsers(interpreter=needing(tmp_path, "return False"), timing=QUICK) as parsers:
            await still_well(parsers, tmp_path)
            status = parsers.status()
            assert status.detail == "charset_normalizer fails on a small sample"
            assert not [each for each in status.limits_missing if "left out" in each]
