"""``folder-mcp read PATH``: the text of an indexed file around a place."""

from __future__ import annotations

import argparse
import os

from mcp_server.cli import console
from mcp_server.cli.call import Call, settled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("path", metavar="PATH", help="an indexed file")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--lines", metavar="A-B", help="these lines")
    place.add_argument("--page", metavar="N", help="this page")
    place.add_argument("--at", metavar="LOCATOR", help='the locator of a hit, for example "slide 2"')
    parser.add_argument("--max-chars", metavar="N", type=int, default=16_000, help="characters at most (16000)")
    parser.add_argument("--json", action="store_true", help="one JSON document, as the MCP tool's result")


def run(call: Call) -> int:
    """Read and print."""
    import anyio  # noqa: PLC0415 - not for --help

    from mcp_server.protocol import arguments  # noqa: PLC0415

    path = arguments.path_from(call.args.path)
    if os.path.exists(path):  # from here; otherwise it may be relative to an indexed folder
        path = os.path.realpath(path)
    return anyio.run(_read, call, path)


async def _read(call: Call, path: str) -> int:
    from mcp_server.cli import output  # noqa: PLC0415
    from mcp_server.protocol.results import ReadResult  # noqa: PLC0415

    args = call.args
    locator = f"lines {args.lines}" if args.lines else f"page {args.page}" if args.page else args.at
    async with call.open(read_only=True) as engine:
        await settled(engine)
        result = ReadResult.of(await engine.read(path, locator, max_chars=args.max_chars))
    if args.json:
        console.document(result)
    else:
        console.say(output.read(result))
    return 0
