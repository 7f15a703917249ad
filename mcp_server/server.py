"""The entry of ``mcp dev`` and ``mcp run``, which load this file by its path and use its attribute ``mcp``.

The SDK has the streams; the engine is in this process, or in the background process if one is running.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if not __package__:  # loaded by path, from any directory: the packages are beside ours
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mcp.server import MCPServer

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from mcp_server import logs
from mcp_server.engine_port import ConnectionContext
from mcp_server.processes.in_process import Host
from mcp_server.processes.open_engine import open_here_or_there
from mcp_server.protocol.application import create_server


def server() -> MCPServer[ConnectionContext]:
    """Build the server over the configured and registered folders."""
    config: Config | ConfigError
    try:
        # environment: the SDK starts us here, there is no command line
        config = load_config(None, data_dir=None, environ=os.environ)
    except ConfigError as error:
        config = error
    logs.configure(logs.folder_for(config.data_dir if isinstance(config, Config) else None))
    return create_server(Host(config, open_here_or_there).connect)


def __getattr__(name: str) -> Any:
    """Build ``mcp`` when ``mcp dev`` or ``mcp run`` asks for it; importing this module builds nothing."""
    if name != "mcp":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["mcp"] = server()
    return globals()["mcp"]


if __name__ == "__main__":
    from mcp_server.__main__ import main

    main()
