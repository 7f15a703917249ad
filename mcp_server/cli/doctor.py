"""``folder-mcp doctor``: everything that could be wrong, one line and one remedy each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from mcp_server.doctor.finding import Finding

_MARK = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILURE"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON document: verdict, and each finding")


def run(call: Call) -> int:
    """Look at everything; 0 when nothing has failed, 1 otherwise."""
    from mcp_server.clients.machine import this_machine  # noqa: PLC0415
    from mcp_server.doctor import checks, setup  # noqa: PLC0415
    from mcp_server.doctor.finding import examine  # noqa: PLC0415
    from mcp_server.processes.owner_lock import user_config_path  # noqa: PLC0415

    args = call.args
    found = setup.read(args.config, args.data_dir, call.environ, user_config_path())
    findings = examine(checks.checks(found, this_machine(call.environ), Path.cwd()))
    return _document(findings) if args.json else _lines(findings)


def _lines(findings: Iterable[Finding]) -> int:
    counts = {"ok": 0, "warning": 0, "failure": 0}
    for finding in findings:
        counts[finding.verdict] += 1
        console.say(f"{_MARK[finding.verdict]}  {console.plain(f'{finding.name}: {finding.detail}')}")
        if finding.remedy and finding.verdict != "ok":
            console.say(f"         -> {console.plain(finding.remedy)}")
    console.say(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures")
    return 1 if counts["failure"] else 0


def _document(findings: Iterable[Finding]) -> int:
    """Written without pydantic, which may be what is missing."""
    all_of_them = list(findings)
    verdicts = {finding.verdict for finding in all_of_them}
    worst = next(each for each in ("failure", "warning", "ok") if each in verdicts)
    console.say(json.dumps({"verdict": worst, "findings": [asdict(each) for each in all_of_them]}, indent=2))
    return 1 if worst == "failure" else 0
