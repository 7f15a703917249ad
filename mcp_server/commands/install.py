"""``folder-mcp install CLIENT [FOLDER ...]``: into a client's configuration, and then really tried."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import console
from mcp_server.call import Call
from mcp_server.install_report import each_client, listing, recorded, seen, tell, told

if TYPE_CHECKING:
    from mcp_server.clients.change import Change
    from mcp_server.clients.entry import Launch
    from mcp_server.clients.known import Client
    from mcp_server.clients.machine import Machine
    from mcp_server.clients.trial import Trial
    from mcp_server.install_schema import ClientRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", help="claude-code, cursor, ...; without it they are listed"
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="what the client searches by default")
    parser.add_argument("--print", action="store_true", help="show the entry and where it would go; write nothing")
    parser.add_argument("--no-check", action="store_true", help="do not start the server afterwards")
    add_common(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what ``install`` and ``uninstall`` share."""
    parser.add_argument("--all", action="store_true", help="every client found on this machine")
    parser.add_argument("--name", metavar="NAME", help="the entry's name (folder-mcp)")
    parser.add_argument("--file", metavar="FILE", help="another configuration file of that client")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(call: Call) -> int:
    """Write, check, tell."""
    from mcp_server.clients.known import CLIENTS  # noqa: PLC0415 - not for --help
    from mcp_server.clients.machine import this_machine  # noqa: PLC0415

    args, machine = call.args, this_machine(call.environ)
    if args.client is None and not args.all:
        return tell(call, [seen(each, machine) for each in CLIENTS.values()], listing)
    if args.all and args.client is not None:
        args.folders.insert(0, args.client)
    launch, wanted = _launch(call, machine)
    if args.print:
        return _print(call, launch, machine)
    tried: dict[Launch, Trial] = {}

    def one(client: Client, file: Path) -> ClientRecord:
        from mcp_server.clients.change import install  # noqa: PLC0415

        change = install(client, file, launch, args.name)
        check = None if args.no_check else _checked(call, client, change, wanted, tried)
        return recorded(client, machine, change, check)

    return tell(call, each_client(call, machine, one), told)


def _launch(call: Call, machine: Machine) -> tuple[Launch, list[str]]:
    """Return what clients are to start, and the folders to try a search on."""
    from indexer.folders.registry import (  # noqa: PLC0415
        check_folder,
        list_folders,
    )
    from mcp_server.clients import program  # noqa: PLC0415

    config, args = call.config, call.args
    known = list_folders(config).paths
    folders = [check_folder(each, data_dir=config.data_dir, known=known) for each in args.folders]
    named = program.named_settings(args.config, args.data_dir, machine)
    launch = program.launch(folders, *named)
    if program.passing(launch.command):
        console.note(
            f"{launch.command} is in uv's cache, which may be cleaned; what `uv tool install folder-mcp` makes stays: "
            "install from there"
        )
    return launch, folders or list(known)


def _checked(call: Call, client: Client, change: Change, wanted: Sequence[str], tried: dict[Launch, Trial]) -> Trial:
    """Start what now stands in the file; once for clients that start the same."""
    import anyio  # noqa: PLC0415

    from mcp_server.clients import forms, kept_file, sample  # noqa: PLC0415
    from mcp_server.clients.entry import folders_of, launch_of  # noqa: PLC0415
    from mcp_server.clients.errors import ClientError  # noqa: PLC0415
    from mcp_server.clients.trial import trial  # noqa: PLC0415

    entry = forms.find(client.form, kept_file.read(change.file).text, [*client.table, change.name])
    launch = launch_of(entry) if isinstance(entry, dict) else None
    if launch is None:
        raise ClientError(f"{change.name!r} is gone from {change.file}: close {client.title} and try again")
    if launch not in tried:
        console.note(f"starting the server as {client.title} would ...")
        files = sample.samples(folders_of(launch) or wanted, call.config)
        tried[launch] = anyio.run(trial, launch, files, call.environ)
    return tried[launch]


def _print(call: Call, launch: Launch, machine: Machine) -> int:
    """Show each entry and its file; nothing is written, and a file that cannot be read does not matter."""
    from mcp_server.clients.change import snippet  # noqa: PLC0415
    from mcp_server.clients.entry import NAME, check_name  # noqa: PLC0415

    def one(client: Client, file: Path) -> ClientRecord:
        from mcp_server.install_schema import ClientRecord  # noqa: PLC0415

        name = check_name(call.args.name or NAME)
        entry = client.entry(launch, name)
        if not call.args.json:
            console.say(f"# {client.title}: {file}\n{snippet(client, name, entry)}")
        return ClientRecord(
            client=client.key, title=client.title, found=client.found(machine), file=str(file), name=name, entry=entry
        )

    records = each_client(call, machine, one)
    return tell(call, records, lambda _: None)
