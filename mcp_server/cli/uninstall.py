"""``folder-mcp uninstall CLIENT``: takes our entry out of a client's configuration, and nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli.call import Call
from mcp_server.cli.install import add_common, each_client, recorded, tell, told

if TYPE_CHECKING:
    from mcp_server.cli.json_results import ClientRecord
    from mcp_server.clients.registry import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("client", metavar="CLIENT", nargs="?", help="claude-code, cursor, ...")
    add_common(parser)


def run(call: Call) -> int:
    """Take it out and tell."""
    from indexer.errors import ConfigError  # noqa: PLC0415 - not for --help
    from mcp_server.clients.install import uninstall  # noqa: PLC0415
    from mcp_server.clients.machine import this_machine  # noqa: PLC0415

    if call.args.client is None and not call.args.all:
        raise ConfigError("which client? name one, or --all; folder-mcp install lists them")
    machine = this_machine(call.environ)

    def one(client: Client, file: Path) -> ClientRecord:
        return recorded(client, machine, uninstall(client, file, call.args.name))

    return tell(call, each_client(call, machine, one), told)
