"""Writes lines into a record until it is killed, or as many as it is told: ``DATA_DIR NAME COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indexer.config import RecordSettings
from mcp_server.record.record import Record


def main(data_dir: str, name: str, count: str) -> None:
    record = Record(Path(data_dir), RecordSettings())
    number = 0
    while int(count) < 0 or number < int(count):
        files = [f"/notes/{name}/{number}/{part}.md" for part in range(20)]
        record.write({"at": "2026-11-28T12:00:00.000Z", "client": name, "number": number, "files": files})
        number += 1
        if number == 1:
            sys.stdout.write("begun\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
