"""The server for ``mcp dev`` and ``mcp run``: the SDK owns the streams, the engine lives in this process."""

from __future__ import annotations

import os

from mcp.server import MCPServer

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from mcp_server import logs
from mcp_server.host import Host
from mcp_server.port import Lent
from mcp_server.processes.opening import open_here_or_there


def server() -> MCPServer[Lent]:
    """Build the server over the configured and known folders."""
    config: Config | ConfigError
    try:
        config = load_config(
            None, data_dir=None, environ=os.environ
        )  # house: the SDK starts us here, there is no command line
    except ConfigError as error:
        config = error
    logs.configure(logs.folder_for(config.data_dir if isinstance(config, Config) else None))
    from mcp_server.server import create_server  # noqa: PLC0415 - after logging is set up

    return create_server(Host(config, open_here_or_there).lend)
