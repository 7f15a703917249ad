"""The MCP server on stdin and stdout, in this process. Imported once ``serve`` has claimed both."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import anyio

from indexer.config import Config
from indexer.errors import ConfigError
from mcp_server.cli.call import Call
from mcp_server.engine_port import Opener
from mcp_server.processes.in_process import Host
from mcp_server.processes.launch import absolute_folder
from mcp_server.processes.open_engine import open_alone, open_real
from mcp_server.protocol.application import create_server
from mcp_server.protocol.transport import leave, serve
from mcp_server.protocol.wire import Wire


def serve_stdio(call: Call, config: Config | ConfigError, wire: Wire) -> NoReturn:
    """Serve until the client leaves; then the process ends.

    Args:
        call: The command line.
        config: The configuration, or what is wrong with it, which clients are told.
        wire: The descriptors of the client.
    """
    answered = anyio.Event()
    if call.args.read_only:  # it replaces an owner that does not answer: the first call waits for the index already
        answered.set()
    folders = [absolute_folder(folder) for folder in call.args.folders]
    host = Host(config, _opener(call), folders=folders, only=call.args.only, answered=answered, notices=_notices(call))
    leave(serve(create_server(host.connect), wire, answered))


def _opener(call: Call) -> Opener:
    """Return what opens the engine in this process."""
    opener = open_alone if call.opener is open_real else call.opener
    return partial(opener, read_only=True) if call.args.read_only else opener


def _notices(call: Call) -> tuple[str, ...]:
    """Return what the client should know about being served by this process."""
    if not call.args.read_only:
        return ()
    return (f"Search by word only, nothing is being indexed: {call.args.because}. If it stays so: folder-mcp stop",)
