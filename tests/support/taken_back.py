"""Every exit through which the text of a file leaves, tried at once; and files that were taken back, as a program.

As a program (``taken_back.py DIRECTORY``) it makes a file unreadable: root reads all, so the test runs it without
the rights that make that so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import anyio
from engines import engine_over
from mcp import Client

from indexer.engine import Engine
from indexer.errors import FolderMcpError
from indexer.types import Query, Scope
from mcp_server.engine_port import ConnectionContext
from mcp_server.page import api
from mcp_server.protocol.application import create_server

WORD, MARK = "quetzalcoatl", "marigold7421"
"""Stand side by side in the file that is taken back, and nowhere else; the second is never asked for."""
TEXT = f"# Taken\n\nOne word on {WORD} and {MARK}.\n"


@asynccontextmanager
async def clients(engine: Engine) -> AsyncIterator[list[Client]]:
    """A client of each era that stays open."""

    @asynccontextmanager
    async def source() -> AsyncIterator[ConnectionContext]:
        yield ConnectionContext(engine)

    server = create_server(source)
    async with Client(server, mode="legacy") as old, Client(server, mode="auto") as new:
        yield [old, new]


async def exits_that_show(engine: Engine, opened: list[Client], file: Path) -> set[str]:
    """Return the exits that show the text of a file; nearly all of them where it is indexed."""
    path, word, root = str(file), WORD, str(file.parent)
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "search by word": lambda: engine.search(Query(word, mode="keyword")),
        "search by both": lambda: engine.search(Query(word)),
        "search by meaning": lambda: engine.search(Query(f"text about {word}", mode="semantic", top_k=50)),
        "search with neighbours": lambda: engine.search(Query(word, context=3)),
        "search in its folder": lambda: engine.search(Query(word, scope=Scope((root,)))),
        "second page": lambda: engine.search(Query("word", mode="keyword", top_k=1, offset=1)),
        "read": lambda: engine.read(path),
        "read lines": lambda: engine.read(path, "lines 1-5"),
        "read by name": lambda: engine.read(file.name),
        "page search": lambda: api.search(engine, api.SearchRequest(query=word)),
        "page read": lambda: api.read(engine, api.ReadRequest(path=path, locator="lines 1")),
        "page files": lambda: api.files(engine, api.FilesRequest()),
    }
    for number, client in enumerate(opened):

        def call(tool: str, client: Client = client, **arguments: Any) -> Callable[[], Awaitable[Any]]:
            return lambda: client.call_tool(tool, arguments)

        ways |= {
            f"client {number} search": call("search", query=word),
            f"client {number} next page": call("search", query="word", mode="keyword", top_k=1, offset=1),
            f"client {number} read": call("read", path=path),
            f"client {number} status": call("status", verbose=True),
            f"client {number} resource": lambda client=client: client.read_resource("folder-mcp://status"),
        }
    found = set()
    for way, ask in ways.items():
        try:
            answer = await ask()
        except FolderMcpError as error:
            answer = error
        if MARK in (json.dumps(answer) if isinstance(answer, dict) else str(answer)):
            found.add(way)
    return found


async def unreadable(base: Path) -> dict[str, list[str]]:
    """Index a file, take the right to read it away; return the exits that show it before, at once, after a scan."""
    notes = base / "notes"
    notes.mkdir()
    (notes / "bread.md").write_text("# Bread\n\nOne word on flour and salt.\n", encoding="utf-8")
    file = notes / "taken.md"
    file.write_text(TEXT, encoding="utf-8")
    async with engine_over(base / "data", notes) as engine, clients(engine) as opened:
        await engine.index()
        steps = {"before": await exits_that_show(engine, opened, file)}
        file.chmod(0)
        steps["at once"] = await exits_that_show(engine, opened, file)
        await engine.index()
        steps["after a scan"] = await exits_that_show(engine, opened, file)
    return {when: sorted(ways) for when, ways in steps.items()}


if __name__ == "__main__":
    print(json.dumps(anyio.run(unreadable, Path(sys.argv[1]))))
