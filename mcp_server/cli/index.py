"""``folder-mcp index [FOLDER ...]``: index now, show how far it is, and wait until it is done."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from indexer.status_types import IndexReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="remember and index it; all known ones when none")
    parser.add_argument("--model", metavar="M", help="embedding model for the folders named here")
    parser.add_argument("--json", action="store_true", help="one JSON document when it is done")


def run(call: Call) -> int:
    """Index and report; 0 when everything that can be indexed is."""
    import anyio  # noqa: PLC0415 - not for --help

    from indexer.errors import ConfigError  # noqa: PLC0415
    from indexer.folders.registry import add_folder, list_folders  # noqa: PLC0415
    from mcp_server.cli import output  # noqa: PLC0415
    from mcp_server.cli.json_results import IndexResult  # noqa: PLC0415

    args = call.args
    named = [add_folder(call.config, folder, model=args.model).path for folder in args.folders]
    listed = list_folders(call.config)
    for reason in listed.refused:
        console.complain(reason)
    if not listed.known:
        raise ConfigError("there is no folder to index; name one: folder-mcp index FOLDER")
    report = anyio.run(_index, call, named or None)
    if args.json:
        console.document(IndexResult.of(report))
    else:
        console.say(output.index(report))
    return 0 if report.complete and not listed.refused else 1


async def _index(call: Call, folders: list[str] | None) -> IndexReport:
    import anyio  # noqa: PLC0415

    from mcp_server.cli.progress import shown  # noqa: PLC0415

    async with call.open() as engine, anyio.create_task_group() as group:
        group.start_soon(shown, engine, folders)
        report = await engine.index(folders)
        group.cancel_scope.cancel()
    return report
