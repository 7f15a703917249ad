"""``serve`` and ``stop``: the MCP server on stdin and stdout, and the end of the background process.

Light at its top: ``serve`` claims stdin and stdout before it imports the rest.
"""

from __future__ import annotations

import gc
import os
import signal

from indexer.config import Config
from indexer.errors import ConfigError
from mcp_server import logs
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes import timing
from mcp_server.processes.handshake import HandshakeRefused, HandshakeTimeout, OwnerNotFound, handshake_request
from mcp_server.processes.owner_lock import holder, is_held
from mcp_server.processes.remote_engine import connector_for
from mcp_server.protocol.wire import claim_wire
from mcp_server.state_files import read_state
from mcp_server.version import release


def run_serve(call: Call) -> int:
    """``folder-mcp serve [FOLDER ...]``: serve until the client leaves; then the process ends.

    Returns:
        The exit code, only when it cannot begin.

    Raises:
        ConfigError: ``--only`` names no folder, or ``--http`` cannot be served.
    """
    if call.args.only and not call.args.folders:
        raise ConfigError("--only needs the folders that may be seen: folder-mcp serve FOLDER --only")
    if call.args.http is not None:
        from mcp_server.cli.serve_web import serve_http  # noqa: PLC0415 - only for --http

        return serve_http(call)
    try:
        wire = claim_wire()
    except OSError:
        console.complain("stdin or stdout is closed; an MCP client starts this command, with pipes")
        return 1
    if os.isatty(wire.read):
        console.note(f"folder-mcp {release()} speaks MCP on this terminal, for a client to talk to. Ctrl-C ends it.")
        console.note("People use `folder-mcp index`, `search` and `status`; see `folder-mcp --help`.")
    config: Config | ConfigError
    try:
        config = call.config
    except ConfigError as error:  # the server starts all the same and reports this to its client
        config = error
    logs.configure(logs.folder_for(config.data_dir if isinstance(config, Config) else None), verbose=call.args.verbose)
    # Importing the SDK makes very many objects that are never freed: collecting takes a tenth of the start-up time.
    gc.disable()
    from mcp_server.cli.serve_stdio import serve_stdio  # noqa: PLC0415 - the wire is claimed first

    gc.freeze()
    gc.enable()
    return serve_stdio(call, config, wire)


def run_stop(call: Call) -> int:
    """``folder-mcp stop``: ask the background process to end and wait until it has; 1 if it is still there."""
    attachment = connector_for(call.config)
    files = attachment.owner_files
    if not is_held(files):
        console.say("no background process is running")
        return 0
    pid = holder(files, read_state(files.state_file).get("pid"))
    why = "did not end in time"
    try:
        line, answer = attachment.dial(handshake_request("control"))
    except HandshakeTimeout as silent:
        silent.connection.close()
        why = "does not answer"
    except (OwnerNotFound, HandshakeRefused) as error:
        why = f"cannot be reached ({error})"
    else:
        if line.send_and_wait_for_close({"id": 1, "do": "stop"}, timing.STOP_S):
            console.say(f"stopped process {answer.get('pid', pid)}")
            return 0
    if pid is None:
        console.complain(f"the background process {why}, and the system does not tell which process it is; end it")
        return 1
    if call.args.force:
        os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        console.say(f"killed process {pid}, which {why}")
        return 0
    console.complain(f"the background process {pid} {why}; folder-mcp stop --force kills it")
    return 1
