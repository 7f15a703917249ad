"""``folder-mcp search QUERY``: hits from what is indexed, and what is missing."""

from __future__ import annotations

import argparse
import os

from mcp_server.cli import console
from mcp_server.cli.call import Call, settled
from mcp_server.engine_port import EnginePort


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("query", metavar="QUERY", nargs="+", help="a question, a description, or exact words")
    parser.add_argument("-k", "--top-k", metavar="N", type=int, default=8, help="how many hits, 1 to 50 (8)")
    parser.add_argument("--offset", metavar="N", type=int, default=0, help="hits to pass over")
    parser.add_argument("--folder", metavar="F", action="append", help="only this folder; may be given more than once")
    parser.add_argument("--path", metavar="GLOB", help='only files that match, for example "**/*.md"')
    parser.add_argument("--after", metavar="DATE", help="only files modified after it, for example 2026-11-01")
    parser.add_argument("--type", metavar="T", action="append", help="only such files: pdf, md, code, slides, ...")
    parser.add_argument("--context", metavar="N", type=int, default=0, help="chunks around each hit, 0 to 3 (0)")
    parser.add_argument("--max-chars", metavar="N", type=int, help="characters of all passages together")
    parser.add_argument("--mode", choices=("hybrid", "semantic", "keyword"), default="hybrid", help="how (hybrid)")
    parser.add_argument("--json", action="store_true", help="one JSON document, as the MCP tool's result")


def run(call: Call) -> int:
    """Search, print, and say what is missing."""
    import anyio  # noqa: PLC0415 - not for --help

    return anyio.run(_search, call)


async def _search(call: Call) -> int:
    from indexer.documents.formats import suffixes_of  # noqa: PLC0415
    from indexer.types import (  # noqa: PLC0415
        Query,
        Scope,
    )
    from mcp_server.cli import output  # noqa: PLC0415
    from mcp_server.protocol import arguments  # noqa: PLC0415
    from mcp_server.protocol.results import SearchResult  # noqa: PLC0415

    args = call.args
    text, notices = arguments.cut_query(" ".join(args.query))
    after = arguments.parse_time(args.after) if args.after else None
    suffixes = suffixes_of(args.type) if args.type else None
    async with call.open() as engine:
        await settled(engine)
        scope = Scope(_folders(args.folder, engine), args.path, after, suffixes)
        asked = Query(text, args.top_k, args.offset, scope, args.mode, args.context, args.max_chars)
        answer = await engine.search(asked)
        owner = engine.status().owner
    if owner.state == "read_only":
        notices = (*notices, f"another folder-mcp keeps the index up to date; this one only reads it. {owner.detail}")
    result = SearchResult.of(answer, text, notices)
    if args.json:
        console.document(result)
    else:
        console.say(output.search(result, whole=bool(args.context or args.max_chars)))
    return 0


def _folders(names: list[str] | None, engine: EnginePort) -> tuple[str, ...] | None:
    from mcp_server.protocol import arguments  # noqa: PLC0415

    if not names:
        return None
    # A path that exists from here is meant as a path; anything else may be the name of a folder.
    meant = [os.path.abspath(name) if os.path.exists(name) else name for name in names]
    return arguments.roots_of(meant, [folder.path for folder in engine.folders()])
