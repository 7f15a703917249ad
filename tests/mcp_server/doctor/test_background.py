"""The owner: absent, alone, silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from findings import one

from mcp_server.doctor.setup import owner_findings
from mcp_server.processes.owner_lock import OwnerLock, owner_files_for
from mcp_server.state_files import write_state


def test_the_owner_is_absent_alone_or_silent(tmp_path: Path) -> None:
    place = owner_files_for(str(tmp_path / "data"), str(tmp_path / "run"))
    assert "none is running" in one(owner_findings(lambda: place, "1.0")).detail
    with OwnerLock(place) as claim:
        assert claim.acquire()
        write_state(place.state_file, {"pid": 7, "version": "1.0", "endpoint": None})
        assert "by itself" in one(owner_findings(lambda: place, "1.0")).detail
        write_state(
            place.state_file, {"pid": 7, "version": "1.0", "endpoint": {"kind": "unix", "path": "/nowhere.sock"}}
        )
        found = one(owner_findings(lambda: place, "1.0"))
        assert found.verdict == "failure" and "stop --force" in found.remedy

    def nowhere() -> Any:
        raise PermissionError("/tmp/x is not a directory of this user")

    assert one(owner_findings(nowhere, "1.0")).verdict == "warning"
