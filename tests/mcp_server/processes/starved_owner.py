"""An owner that takes all file descriptors of its process when told ``take``, and closes them again at ``free``."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT)]

from mcp_server.processes.owner_process import main  # noqa: E402

TOLD = os.dup(1)  # the owner's own report ends its use of stdout


def obey() -> None:
    taken: list[int] = []
    for word in sys.stdin:
        if word.strip() == "take":
            while True:
                try:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            os.write(TOLD, b"TAKEN\n")
        else:
            while taken:
                os.close(taken.pop())
            os.write(TOLD, b"FREED\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    threading.Thread(target=obey, daemon=True).start()
    sys.exit(main(sys.argv[1:], os.environ))
