"""How much of our code one request runs through: a warm search, a read, a status, an edit of a watched file.

    python benchmarks/walks.py [--files]

Everything is real and runs in one process: the server of ``mcp dev``, the SDK's in-process client, the embedded model,
an index of six notes in a temporary folder. A profile function in every thread records each call of a function in
``indexer`` or ``mcp_server``; what the parser processes do is not in it. Each request is made once before it is
recorded, so that nothing is loaded or imported, and is recorded until the process is at rest again.

"Functions" counts each function once. "Changes of file" counts the calls whose function is in another file than the
call before, each step of a coroutine being a call. ``--files`` also lists the files, with the calls into each.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import anyio

PACKAGES = ("indexer", "mcp_server")
REST_S = 2.0
"""Seconds without a call after which the process is at rest."""
LIMIT_S = 60.0
"""Seconds after which we give up waiting."""
NOTES = {
    "bread.md": "# Bread\n\nFlour, water, salt and a night in the cold make a sour loaf.\n",
    "harbour.md": "# Harbour\n\nThe ferry to the island leaves from the northern quay at seven.\n",
    "keys.md": "# Keys\n\nThe signing key is rotated every March; the spare one lies in the vault.\n",
    "garden.md": "# Garden\n\nTomatoes want sun and shelter from rain, and water at the roots only.\n",
    "printer.md": "# Printer\n\nWhen paper jams, open the rear flap and pull it out slowly.\n",
    "chess.md": "# Chess\n\nA rook belongs behind a passed pawn, one's own or the opponent's.\n",
}
EDITS = (
    "# Harbour\n\nThe ferry sails at high water only, and never on a Sunday in winter.\n",
    "# Harbour\n\nSince the storm the ferry leaves from the southern pier, an hour later.\n",
)


class HistoryRecorder:
    """Records the calls of our functions, in every thread that starts after ``install``."""

    def __init__(self) -> None:
        self.calls: list[CodeType] = []
        self.last = time.monotonic()
        self._ours: dict[CodeType, bool] = {}
        self._roots = {f"{_directory(name)}{os.sep}": name for name in PACKAGES}

    def install(self) -> None:
        """Begin, in this thread and in those to come."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(tuple(self._roots))
        if ours:
            self.calls.append(code)
            self.last = time.monotonic()

    def named(self, code: CodeType) -> str:
        """A function's file, as the repository names it."""
        root = next(root for root in self._roots if code.co_filename.startswith(root))
        return f"{self._roots[root]}/{Path(code.co_filename).relative_to(root).as_posix()}"

    async def rest(self) -> None:
        """Wait until nothing of ours has been called for ``REST_S`` seconds."""
        until = time.monotonic() + LIMIT_S
        while (left := self.last + REST_S - time.monotonic()) > 0:
            if time.monotonic() > until:
                raise SystemExit(f"the process is not at rest after {LIMIT_S:.0f} s")
            await anyio.sleep(left)

    async def next_call(self) -> None:
        """Wait until something of ours is called again."""
        seen, until = self.last, time.monotonic() + LIMIT_S
        while self.last == seen:
            if time.monotonic() > until:
                raise SystemExit(f"nothing happened within {LIMIT_S:.0f} s")
            await anyio.sleep(0.02)

    async def record(self, work: Callable[[], Awaitable[object]]) -> list[CodeType]:
        """The calls from the process at rest to the process at rest."""
        await self.rest()
        self.calls = []
        await work()
        await self.rest()
        found, self.calls = self.calls, []
        return found


def _directory(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", action="store_true", help="also list the files, with the calls into each")
    options = parser.parse_args()
    recorder = HistoryRecorder()
    with tempfile.TemporaryDirectory(prefix="walks-") as temporary:
        home = Path(temporary).resolve()
        folder = home / "notes"
        folder.mkdir()
        for name, text in NOTES.items():
            (folder / name).write_text(text, encoding="utf-8")
        config = home / "config.toml"
        config.write_text(f"data_dir = '{home / 'data'}'\n[[folders]]\npath = '{folder}'\n", encoding="utf-8")
        os.environ.update(FOLDER_MCP_CONFIG=str(config), HF_HUB_OFFLINE="1")
        os.environ.pop("FOLDER_MCP_DATA_DIR", None)
        walks = await walked(recorder, folder)
    print(f"{'':<8} {'files':>6} {'functions':>10} {'changes of file':>16}")
    for name, calls in walks.items():
        entered = Counter(map(recorder.named, calls))
        changes = sum(one.co_filename != other.co_filename for one, other in pairwise(calls))
        print(f"{name:<8} {len(entered):>6} {len(set(calls)):>10} {changes:>16}")
        if options.files:
            print("\n".join(f"{count:>10}  {path}" for path, count in sorted(entered.items())))


async def walked(recorder: HistoryRecorder, folder: Path) -> dict[str, list[CodeType]]:
    """Serve the folder, make each request twice, and return the calls of the second."""
    recorder.install()
    from mcp import Client

    from mcp_server.server import mcp as server

    async with Client(server) as client:

        async def call(tool: str, **given: object) -> dict[str, Any]:
            result = await client.call_tool(tool, given)
            if result.is_error:
                raise SystemExit(f"{tool}: {result.content}")
            return result.structured_content or {}

        async def embedded(text: str, name: str) -> bool:
            """Whether everything is embedded, and semantic search finds the text in the file."""
            hits = (await call("search", query=text, mode="semantic"))["hits"]
            folders = (await call("status"))["folders"]
            done = bool(hits) and folders[0]["chunks"] == folders[0]["embedded"] == len(NOTES)
            return done and hits[0]["path"] == str(folder / name)

        async def until_embedded(text: str, name: str) -> None:
            until = time.monotonic() + LIMIT_S
            while not await embedded(text, name):
                if time.monotonic() > until:
                    raise SystemExit(f"{name} is not embedded after {LIMIT_S:.0f} s")
                await anyio.sleep(0.2)

        async def search(query: str) -> None:
            found = await call("search", query=query)
            if {leg for hit in found["hits"] for leg in hit["matched"]} != {"keyword", "semantic"}:
                raise SystemExit(f"not found by both kinds of search: {found}")

        async def read() -> None:
            await call("read", path=str(folder / "keys.md"))

        async def edit(text: str) -> None:
            (folder / "harbour.md").write_text(text, encoding="utf-8")
            await recorder.next_call()  # of the watcher

        await until_embedded("a sour loaf of bread", "bread.md")
        await edit(EDITS[0])
        await until_embedded("the ferry never sails on a Sunday", "harbour.md")
        await search("what to do when paper jams")
        await read()
        walks = {
            "search": await recorder.record(lambda: search("where the spare signing key lies")),
            "read": await recorder.record(read),
            "status": await recorder.record(lambda: call("status")),
            "edit": await recorder.record(lambda: edit(EDITS[1])),
        }
        if not await embedded("from which pier does the ferry leave since the storm", "harbour.md"):
            raise SystemExit("the edit was not embedded when the process came to rest; try again on a quieter machine")
    sys.setprofile(None)
    threading.setprofile(None)
    return walks


if __name__ == "__main__":
    anyio.run(main)
