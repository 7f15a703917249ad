"""``python -m mcp_server``, the same as ``folder-mcp``: a relay, the owner, or a command."""

from __future__ import annotations

import os
import sys

from mcp_server.processes.launch import run_relay


def main() -> None:
    """Run the command line of this process and end it with the exit code.

    What clients start, and what a relay starts in turn, must begin at once: both come before the imports of the
    command line.
    """
    if sys.argv[1:2] == ["owner"]:
        from mcp_server.processes.owner_process import main as run_owner  # noqa: PLC0415

        sys.exit(run_owner(sys.argv[2:], os.environ))
    run_relay(sys.argv[1:], os.environ)
    from mcp_server.cli.main import main as run_command  # noqa: PLC0415

    sys.exit(run_command(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
