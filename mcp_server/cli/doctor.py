"""``doctor``: everything that could be wrong, one line and one remedy each. Runs with packages missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.clients.machine import this_machine
from mcp_server.doctor.checks import CheckInputs, Finding, read_settings, run_checks
from mcp_server.processes.owner_lock import user_config_path
from mcp_server.protocol.untrusted import one_line

_MARK = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILURE"}


def run_doctor(call: Call) -> int:
    """Run every check; 0 when nothing has failed, 1 otherwise."""
    args = call.args
    settings = read_settings(args.config, args.data_dir, call.environ, user_config_path())
    findings = run_checks(CheckInputs(settings, this_machine(call.environ), _working_directory()))
    return _print_document(findings) if args.json else _print_lines(findings)


def _working_directory() -> Path:
    """Return the working directory; the root where it does not exist any more."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.sep)


def _print_lines(findings: Iterable[Finding]) -> int:
    counts = {"ok": 0, "warning": 0, "failure": 0}
    for finding in findings:
        counts[finding.verdict] += 1
        console.say(f"{_MARK[finding.verdict]}  {one_line(f'{finding.name}: {finding.detail}')}")
        if finding.remedy and finding.verdict != "ok":
            console.say(f"         -> {one_line(finding.remedy)}")
    console.say(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures")
    return 1 if counts["failure"] else 0


def _print_document(findings: Iterable[Finding]) -> int:
    """Print one JSON document, without pydantic: it may be the package that is missing."""
    every = list(findings)
    verdicts = {finding.verdict for finding in every}
    worst = next(each for each in ("failure", "warning", "ok") if each in verdicts)
    console.say(json.dumps({"verdict": worst, "findings": [asdict(each) for each in every]}, indent=2))
    return 1 if worst == "failure" else 0
