"""``folder-mcp stop``: ends the background process that all clients of a data directory share."""

from __future__ import annotations

import argparse
import os
import signal

from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes import timing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--force", action="store_true", help="kill it if it does not answer; the index survives that")


def run(call: Call) -> int:
    """Ask it to end and wait until it has; 1 if it is still there."""
    from mcp_server.processes.handshake import HandshakeRefused, HandshakeTimeout, OwnerNotFound, handshake_request  # noqa: PLC0415
    from mcp_server.processes.owner_lock import is_held  # noqa: PLC0415
    from mcp_server.processes.remote_engine import connector_for  # noqa: PLC0415
    from mcp_server.state_files import read_state  # noqa: PLC0415

    connector = connector_for(call.config)
    place = connector.owner_files
    if not is_held(place):
        console.say("no background process is running")
        return 0
    pid = read_state(place.state_file).get("pid")
    why = "did not end in time"
    try:
        line, answer = connector.dial(handshake_request("control"))
    except HandshakeTimeout as silent:
        silent.connection.close()
        why = "does not answer"
    except (OwnerNotFound, HandshakeRefused) as error:
        why = f"cannot be reached ({error})"
    else:
        pid = answer.get("pid", pid)
        if line.send_and_wait_for_close({"id": 1, "do": "stop"}, timing.STOP_S):
            console.say(f"stopped process {pid}")
            return 0
    if call.args.force and isinstance(pid, int):
        os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        console.say(f"killed process {pid}, which {why}")
        return 0
    console.complain(f"the background process {pid} {why}; folder-mcp stop --force kills it")
    return 1
