"""An owner whose slot says that only a new process helps, as soon as a file appears."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import anyio  # noqa: E402
from fakes_engine import FakeEngine, open_fake  # noqa: E402

from indexer.config import Config  # noqa: E402
from mcp_server.processes.owner_process import main  # noqa: E402


@asynccontextmanager
async def opener(
    config: Config, *, start: anyio.Event, on_wedged: Callable[[str], None], **_: object
) -> AsyncIterator[FakeEngine]:
    async def watch() -> None:
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        on_wedged("the model thread does not come back")

    async with open_fake(config, start=start, read_only=False) as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield engine
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, opener))
