"""Run as a process that indexes one folder with fake weights, tells what it does line by line, and may be killed.

Arguments: data directory, folder. Prints a JSON object of ``Work`` after every change, then ``{"done": ...}``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import anyio
from engines import settings
from fakes import FakeLoader

from indexer.engine import Engine, open_engine


async def tell(engine: Engine) -> None:
    async for status in engine.watch(at_most_every=0.01):
        print(json.dumps(asdict(status.work)), flush=True)


async def main(data: str, folder: str) -> None:
    loader = FakeLoader()
    loader.work = lambda kind, count: time.sleep(0.0005 * count)  # the weights' time: leaves moments to be killed in
    async with open_engine(settings(Path(data)), version="test", loader=loader) as engine:
        await engine.add_folder(folder)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell, engine)
            report = await engine.index()
            tasks.cancel_scope.cancel()
    done = {"done": asdict(report.work), "files": report.indexed, "chunks": report.chunks, "seconds": report.seconds}
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
