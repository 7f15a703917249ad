"""Writers killed at random moments: the driver of ``tests/support/killed_writers.py`` in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_after_every_kill_nothing_is_lost_doubled_or_to_be_made_again() -> None:
    program = Path(__file__).parents[2] / "support" / "killed_writers.py"
    command = [sys.executable, "-W", "ignore", str(program), "--kills", "100", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["faults"] == []
    assert told["verified"] == 101
    assert {"edit", "embed", "compact", "build", "clean"} <= set(told["moments"])
