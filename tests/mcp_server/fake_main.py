"""``folder-mcp`` with the fake engine, as a process of its own.

``FAKE_BUSY`` makes its searches hang: ``task`` in the event loop, ``thread`` in a thread that cannot be interrupted.
``FAKE_NOISE`` makes them print, write to descriptor 1 and start a child that writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import anyio  # noqa: E402
from fakes_engine import FakeEngine, open_fake  # noqa: E402

from indexer.config import Config  # noqa: E402
from indexer.types import Answer, Query  # noqa: E402
from mcp_server.cli.main import main  # noqa: E402


@asynccontextmanager
async def opener(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[FakeEngine]:
    async with open_fake(config, start=start, read_only=read_only) as engine:
        plain = engine.search

        async def search(query: Query) -> Answer:
            if os.environ.get("FAKE_NOISE"):
                print("stray print", flush=True)
                os.write(1, b"stray write\n")
                subprocess.run(["echo", "stray child"], check=True)
            if os.environ.get("FAKE_BUSY"):
                print("busy", file=sys.stderr, flush=True)
            if os.environ.get("FAKE_BUSY") == "task":
                await anyio.sleep(60)
            if os.environ.get("FAKE_BUSY") == "thread":
                await anyio.to_thread.run_sync(time.sleep, 60)
            return await plain(query)

        engine.search = search  # type: ignore[method-assign]
        yield engine


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, opener))
