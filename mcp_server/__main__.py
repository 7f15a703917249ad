"""``python -m mcp_server``, the same as ``folder-mcp``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line of this process and end it with the exit code.

    Relays and owners start before anything else is imported.
    """
    if sys.argv[1:2] == ["owner"]:
        from mcp_server.processes.owner_process import main as owner_main  # noqa: PLC0415

        sys.exit(owner_main(sys.argv[2:], os.environ))
    from mcp_server.processes.launch import run_relay  # noqa: PLC0415

    run_relay(sys.argv[1:], os.environ)
    from mcp_server.cli.main import main as cli_main  # noqa: PLC0415

    sys.exit(cli_main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
