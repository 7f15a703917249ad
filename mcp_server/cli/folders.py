"""``folder-mcp folders [list | add | remove]``: which folders are indexed."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from mcp_server.cli.json_results import FoldersResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.set_defaults(action="list", json=False)
    actions = parser.add_subparsers(dest="action", metavar="list | add | remove")
    listing = actions.add_parser("list", help="show them (also without a word)")
    adding = actions.add_parser("add", help="index one more folder from now on")
    adding.add_argument("folder", metavar="FOLDER")
    adding.add_argument("--model", metavar="M", help="embedding model for this folder, instead of the default")
    adding.add_argument("--allow-broad", action="store_true", help="take a home or system folder as a whole")
    removing = actions.add_parser("remove", help="forget a folder and take its text out of the index")
    removing.add_argument("folder", metavar="FOLDER")
    for each in (listing, adding, removing):
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def run(call: Call) -> int:
    """Do what was asked, then show the folders as they are."""
    from mcp_server.cli import output  # noqa: PLC0415

    args = call.args
    if args.action == "add":
        _add(call)
    elif args.action == "remove":
        _remove(call)
    result = _known(call)
    if args.json:
        console.document(result)
    elif args.action in (None, "list"):
        console.say(output.folders(result))
    return 0


def _add(call: Call) -> None:
    from indexer.folders.registry import add_folder  # noqa: PLC0415

    args = call.args
    known = add_folder(call.config, args.folder, model=args.model, allow_broad=args.allow_broad)
    owner = call.running()
    if owner is not None:
        import anyio  # noqa: PLC0415

        anyio.run(owner.add_folder, known.path)
    if not args.json:
        console.say(f"added {known.path}")
        later = "`folder-mcp index` indexes it now; a server takes it up when it starts."
        console.note("It is being indexed." if owner else later)


def _remove(call: Call) -> None:
    import anyio  # noqa: PLC0415

    async def remove() -> object:
        async with call.open() as engine:
            return await engine.remove_folder(call.args.folder)

    removed = anyio.run(remove)
    if not call.args.json:
        console.say(f"removed {removed}")


def _known(call: Call) -> FoldersResult:
    from indexer.folders.registry import list_folders  # noqa: PLC0415
    from mcp_server.cli.json_results import FoldersResult, KnownRecord  # noqa: PLC0415

    listed = list_folders(call.config)
    return FoldersResult(
        folders=[
            KnownRecord(path=each.path, model=each.model, source=each.source, exists=os.path.isdir(each.path))
            for each in listed.known
        ],
        refused=list(listed.refused),
    )
