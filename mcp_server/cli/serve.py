"""``folder-mcp serve [FOLDER ...]``: the MCP server on stdin and stdout."""

from __future__ import annotations

import argparse
import gc
import os
from functools import partial

from indexer.config import Config
from indexer.errors import ConfigError
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.engine_port import Opener
from mcp_server.processes.http import DEFAULT
from mcp_server.processes.open_engine import open_alone, open_real
from mcp_server.protocol.wire import Wire, claim_wire
from mcp_server.version import release


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="index it, remember it, and search it by default")
    parser.add_argument(
        "--http", metavar="HOST:PORT", nargs="?", const=DEFAULT, help=f"serve MCP by streamable HTTP ({DEFAULT})"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="with --http: certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="with --http: its key")
    parser.add_argument("--allow-remote", action="store_true", help="with --http: not only on loopback, unencrypted")
    parser.add_argument("--host", metavar="NAME", action="append", default=[], help="with --http: a name of this host")
    parser.add_argument("--read-only", action="store_true", help=argparse.SUPPRESS)  # beside an owner that is silent
    parser.add_argument("--because", metavar="WHY", default="", help=argparse.SUPPRESS)


def run(call: Call) -> int:
    """Serve until the client leaves; then the process ends. Returns only when it cannot begin."""
    if call.args.http is not None:
        from mcp_server.cli.serve_http import serve_http  # noqa: PLC0415 - only where somebody asked for HTTP

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
    except ConfigError as error:  # the server comes up all the same and tells its client
        config = error
    return _serve(call, config, wire)


def _serve(call: Call, config: Config | ConfigError, wire: Wire) -> int:
    from mcp_server import logs  # noqa: PLC0415 - the wire is claimed first

    logs.configure(logs.folder_for(config.data_dir if isinstance(config, Config) else None), verbose=call.args.verbose)
    gc.disable()  # importing the SDK makes very many objects that live for ever: a tenth of the start-up time
    import anyio  # noqa: PLC0415

    from mcp_server.processes.in_process import Host  # noqa: PLC0415
    from mcp_server.protocol.application import create_server  # noqa: PLC0415
    from mcp_server.protocol.transport import leave, serve  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    answered = anyio.Event()
    host = Host(config, _opener(call), folders=call.args.folders, answered=answered, notices=_notices(call))
    leave(serve(create_server(host.connect), wire, answered))


def _opener(call: Call) -> Opener:
    """Return what opens the engine in this process."""
    opener = open_alone if call.opener is open_real else call.opener
    return partial(opener, read_only=True) if call.args.read_only else opener


def _notices(call: Call) -> tuple[str, ...]:
    """Return what the client should know of being served by this process."""
    because = call.args.because
    if not call.args.read_only:
        return ()
    return (f"Search by word only, nothing is being indexed: {because}. If it stays so: folder-mcp stop",)
