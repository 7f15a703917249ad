"""``search`` and ``read``: hits from what is indexed, and the text of a file."""

from __future__ import annotations

import os

import anyio

from indexer.documents.formats import suffixes_of
from indexer.types import Query, Scope
from mcp_server.cli import console
from mcp_server.cli.call import Call, wait_until_open
from mcp_server.cli.output import read_text, search_text
from mcp_server.engine_port import EnginePort
from mcp_server.protocol import arguments
from mcp_server.protocol.results import ReadResult, SearchResult


def run_search(call: Call) -> int:
    """``folder-mcp search QUERY``: print the hits, and what the answer could not cover."""
    return anyio.run(_search, call)


async def _search(call: Call) -> int:
    args = call.args
    text, notices = arguments.cut_query(" ".join(args.query))
    after = arguments.parse_time(args.after) if args.after else None
    suffixes = suffixes_of(args.type) if args.type else None
    async with call.open() as engine:
        await wait_until_open(engine)
        scope = Scope(_folders(args.folder, engine), args.path, after, suffixes)
        query = Query(text, args.top_k, args.offset, scope, args.mode, args.context, args.max_chars)
        answer = await engine.search(query)
        owner = engine.status().owner
    if owner.state == "read_only":
        notices = (*notices, f"another folder-mcp keeps the index up to date; this one only reads it. {owner.detail}")
    result = SearchResult.of(answer, text, notices)
    if args.json:
        console.json_document(result)
    else:
        console.say(search_text(result, whole=bool(args.context or args.max_chars)))
    return 0


def _folders(names: list[str] | None, engine: EnginePort) -> tuple[str, ...] | None:
    """Return the roots of the folders that ``--folder`` names; None for all of them."""
    if not names:
        return None
    # A path that exists from the working directory is a path; anything else may be the name of a folder.
    paths = [os.path.abspath(name) if os.path.exists(name) else name for name in names]
    return arguments.roots_of(paths, [folder.path for folder in engine.folders()])


def run_read(call: Call) -> int:
    """``folder-mcp read PATH``: print the text of an indexed file, whole or around a locator."""
    path = arguments.path_from(call.args.path)
    if os.path.exists(path):  # from the working directory; otherwise it may be relative to an indexed folder
        path = os.path.realpath(path)
    return anyio.run(_read, call, path)


async def _read(call: Call, path: str) -> int:
    args = call.args
    locator = f"lines {args.lines}" if args.lines else f"page {args.page}" if args.page else args.at
    async with call.open(read_only=True) as engine:
        await wait_until_open(engine)
        result = ReadResult.of(await engine.read(path, locator, max_chars=args.max_chars))
    if args.json:
        console.json_document(result)
    else:
        console.say(read_text(result))
    return 0
