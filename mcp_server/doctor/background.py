"""The background process that all clients share: alive, answering, of this version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mcp_server import timing
from mcp_server.doctor.finding import Finding
from mcp_server.processes.claim import Place, held
from mcp_server.processes.hello import NotThere, Refused, Silent, dial, greeting
from mcp_server.state_files import read_state


def owner(place: Callable[[], Place], version: str) -> Iterator[Finding]:
    """Look for the owner of the data directory and greet it.

    Args:
        place: Finds its files; raises ``OSError`` when it can have no private directory.
        version: Of this program.
    """
    name = "background process"
    try:
        where = place()
    except OSError as error:
        remedy = "give this user a private directory for it; until then each client does everything by itself"
        yield Finding(name, "warning", f"it has nowhere to live: {error}", remedy)
        return
    if not held(where):
        yield Finding(name, "ok", "none is running; the first client starts it")
        return
    note = read_state(where.note)
    pid, theirs = note.get("pid", "unknown"), str(note.get("version", "unknown"))
    if note.get("endpoint") is None:
        yield Finding(name, "ok", f"process {pid} uses the index by itself (folder-mcp {theirs})")
        return
    trouble = _greeted(where)
    if trouble:
        yield Finding(name, "failure", f"process {pid} {trouble}", "run: folder-mcp stop --force")
    elif theirs != version:
        detail = f"process {pid} is of version {theirs}, this is {version}"
        yield Finding(name, "warning", detail, "run: folder-mcp stop; the next client starts this version")
    else:
        yield Finding(name, "ok", f"process {pid} answers (folder-mcp {theirs})")


def _greeted(where: Place) -> str:
    """What is wrong with the owner's answer, empty when nothing."""
    hello: dict[str, Any] = greeting("check")
    try:
        dial(where, hello, timing.CHECK_OWNER_S)[0].close()
    except Silent as silent:
        silent.line.close()
        return "does not answer"
    except NotThere as error:
        return f"cannot be reached ({error})"
    except Refused as error:
        return f"refuses ({error})"
    return ""
