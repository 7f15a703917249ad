"""Which version starts the next owner when a newer one asked the last to stand down: a lock tells, not the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.processes import timing
from mcp_server.processes.attach import NoOwner, OwnerConnector
from mcp_server.processes.handshake import handshake_request
from mcp_server.processes.owner_lock import OwnerFiles, is_succession_claimed, succession_claimed
from mcp_server.state_files import write_state

CLAIMS = """
import sys
from mcp_server.processes.owner_lock import OwnerFiles, succession_claimed
with succession_claimed(OwnerFiles(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def attach(owner_files: OwnerFiles, version: str) -> NoOwner:
    """Attach where an owner cannot be started: the reason tells whether it was tried."""
    connector = OwnerConnector(owner_files, ["owner", "--no-such-option"], {}, version)
    found = connector.attach(handshake_request("client"), 0.1 if version == "1.0" else 30.0)
    assert isinstance(found, NoOwner)
    return found


def test_an_older_version_starts_no_owner_while_a_newer_one_is_about_to(
    owner_files: OwnerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SUCCESSOR_S", 0.1)
    write_state(owner_files.successor_file, {"version": "2.0"})
    with succession_claimed(owner_files):
        assert "no background process came up" in attach(owner_files, "1.0").reason
        assert not Path(owner_files.log_file).exists()  # a candidate has it as its stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_the_version_that_asked_and_newer_ones_start_an_owner_at_once(owner_files: OwnerFiles, version: str) -> None:
    write_state(owner_files.successor_file, {"version": "2.0"})
    with succession_claimed(owner_files):
        assert "no background process came up" not in attach(owner_files, version).reason
        assert Path(owner_files.log_file).exists()


def test_a_claim_ends_with_its_block_and_there_may_be_several(owner_files: OwnerFiles) -> None:
    assert not is_succession_claimed(owner_files)
    with succession_claimed(owner_files):
        with succession_claimed(owner_files):
            assert is_succession_claimed(owner_files)
        assert sys.platform == "win32" or is_succession_claimed(owner_files)
    assert not is_succession_claimed(owner_files)


@pytest.mark.slow
def test_a_claim_ends_with_a_process_that_is_killed(owner_files: OwnerFiles) -> None:
    command = [sys.executable, "-c", CLAIMS, owner_files.directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"claimed"
        assert is_succession_claimed(owner_files)
        process.kill()
        process.wait()
        assert not is_succession_claimed(owner_files)


def test_a_directory_that_is_gone_can_be_claimed_by_nobody_and_stops_nobody(owner_files: OwnerFiles) -> None:
    missing = OwnerFiles(owner_files.directory + "-gone")
    with succession_claimed(missing):
        assert not is_succession_claimed(missing)
