"""``python -m mcp_server``, the same as ``folder-mcp``."""

from __future__ import annotations

import os
import sys

from mcp_server.cli import main as run


def main() -> None:
    """Run the command line of this process and end it with the exit code."""
    sys.exit(run(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
