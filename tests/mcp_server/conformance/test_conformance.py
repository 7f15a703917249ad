"""The official conformance suite against our server, once for each revision of the protocol that it asks for.

A baseline lists the checks that are known to fail. A failure that is not in it fails the test; so does a listed check
that passes, until it is taken out. It may only shrink: ``AT_MOST`` is lowered with it, and never raised.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import node_packages
import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
AT_MOST = {"2025-11-25": 0, "2026-07-28": 25}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our server with the suite's fixtures."""
    node_packages.package("@modelcontextprotocol/conformance")
    folder = tmp_path_factory.mktemp("notes")
    (folder / "keys.md").write_text("# Keys\n\nRotate the signing key every March.\n", encoding="utf-8")
    command = [sys.executable, str(HERE / "served.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def listed(revision: str) -> set[str]:
    """The checks that are known to fail: ``scenario:check``, one a line."""
    text = (HERE / f"failures-{revision}.txt").read_text(encoding="utf-8")
    return {line.split("#")[0].strip() for line in text.splitlines()} - {""}


def outcomes(results: Path) -> dict[str, bool]:
    """Of every check that ran, whether it passed every time; warnings pass."""
    passed: dict[str, bool] = {}
    for file in results.glob("server-*/checks.json"):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        for check in json.loads(file.read_text(encoding="utf-8")):
            name = f"{scenario}:{check['id']}"
            passed[name] = passed.get(name, True) and check["status"] != "FAILURE"
    return passed


@pytest.mark.parametrize("revision", AT_MOST)
def test_the_server_conforms_but_for_what_is_listed(revision: str, address: str, tmp_path: Path) -> None:
    suite = node_packages.program("@modelcontextprotocol/conformance")
    done = node_packages.run([*suite, "server", "--url", address, "--requirements", revision, "-o", str(tmp_path)])
    assert "=== SUMMARY ===" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.returncode == 0, "a required scenario fails:\n" + done.stdout[done.stdout.rindex("=== SUMMARY") :]
    passed = outcomes(tmp_path)
    assert len(passed) > 60, "the suite ran almost nothing"
    failed = {name for name, well in passed.items() if not well}
    assert failed - listed(revision) == set(), done.stdout[-6000:]
    assert listed(revision) & {name for name, well in passed.items() if well} == set(), "these pass now: take them out"
    assert listed(revision) - set(passed) == set(), "the suite has no such checks"


@pytest.mark.parametrize("revision", AT_MOST)
def test_the_list_of_known_failures_only_shrinks(revision: str) -> None:
    assert len(listed(revision)) <= AT_MOST[revision], "make the check pass instead"
    assert len(listed(revision)) == AT_MOST[revision], "it has shrunk: lower AT_MOST"
