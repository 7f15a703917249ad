"""``folder-mcp install CLIENT [FOLDER ...]``: into a client's configuration, and then really tried."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from mcp_server.cli.json_results import ClientRecord, InstallResult
    from mcp_server.clients.entry import Launch
    from mcp_server.clients.install import Change
    from mcp_server.clients.machine import Machine
    from mcp_server.clients.registry import Client
    from mcp_server.clients.verify import Verification


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
    from mcp_server.clients.machine import this_machine  # noqa: PLC0415
    from mcp_server.clients.registry import CLIENTS  # noqa: PLC0415 - not for --help

    args, machine = call.args, this_machine(call.environ)
    if args.client is None and not args.all:
        return tell(call, [seen(each, machine) for each in CLIENTS.values()], listing)
    if args.all and args.client is not None:
        args.folders.insert(0, args.client)
    launch, wanted = _launch(call, machine)
    if args.print:
        return _print(call, launch, machine)
    tried: dict[Launch, Verification] = {}

    def one(client: Client, file: Path) -> ClientRecord:
        from mcp_server.clients.install import install  # noqa: PLC0415

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
    from mcp_server.clients import machine as machine_module  # noqa: PLC0415

    config, args = call.config, call.args
    known = list_folders(config).paths
    folders = [check_folder(each, data_dir=config.data_dir, known=known) for each in args.folders]
    named = machine_module.settings_to_pass(args.config, args.data_dir, machine)
    launch = machine_module.launch_command(folders, *named)
    if machine_module.is_temporary(launch.command):
        console.note(
            f"{launch.command} is in uv's cache, which may be cleaned; what `uv tool install folder-mcp` makes stays: "
            "install from there"
        )
    return launch, folders or list(known)


def _checked(
    call: Call, client: Client, change: Change, wanted: Sequence[str], tried: dict[Launch, Verification]
) -> Verification:
    """Start what now stands in the file; once for clients that start the same."""
    import anyio  # noqa: PLC0415

    from mcp_server.clients import edit, install, verify  # noqa: PLC0415
    from mcp_server.clients.entry import (  # noqa: PLC0415
        ClientError,
        folders_of,
        launch_of,
    )
    from mcp_server.clients.verify import verify_client  # noqa: PLC0415

    entry = edit.find_entry(client.format, install.read_config_file(change.file).text, [*client.table, change.name])
    launch = launch_of(entry) if isinstance(entry, dict) else None
    if launch is None:
        raise ClientError(f"{change.name!r} is gone from {change.file}: close {client.title} and try again")
    if launch not in tried:
        console.note(f"starting the server as {client.title} would ...")
        files = verify.find_samples(folders_of(launch) or wanted, call.config)
        tried[launch] = anyio.run(verify_client, launch, files, call.environ)
    return tried[launch]


def _print(call: Call, launch: Launch, machine: Machine) -> int:
    """Show each entry and its file; nothing is written, and a file that cannot be read does not matter."""
    from mcp_server.clients.entry import NAME, check_name  # noqa: PLC0415
    from mcp_server.clients.install import snippet  # noqa: PLC0415

    def one(client: Client, file: Path) -> ClientRecord:
        from mcp_server.cli.json_results import ClientRecord  # noqa: PLC0415

        name = check_name(call.args.name or NAME)
        entry = client.entry(launch, name)
        if not call.args.json:
            console.say(f"# {client.title}: {file}\n{snippet(client, name, entry)}")
        return ClientRecord(
            client=client.key, title=client.title, found=client.found(machine), file=str(file), name=name, entry=entry
        )

    records = each_client(call, machine, one)
    return tell(call, records, lambda _: None)


# Install report -----------------------------------------------------------------------------------------------------
# What ``install`` and ``uninstall`` do with one client or all of them, and how they tell it.


def each_client(call: Call, machine: Machine, do: Callable[[Client, Path], ClientRecord]) -> list[ClientRecord]:
    """Do something for the client that was named, or for every one that is here.

    With one client an error ends the command; with all of them it is told, and the others go on.
    """
    from mcp_server.clients.entry import ClientError  # noqa: PLC0415
    from mcp_server.clients.registry import CLIENTS, client  # noqa: PLC0415

    args = call.args
    if not args.all:
        chosen = client(args.client)
        if not chosen.found(machine) and not args.file:
            console.note(f"{chosen.title} was not found on this machine; its configuration is written all the same")
        return [do(chosen, Path(args.file).absolute() if args.file else chosen.file(machine))]
    if args.file:
        raise ClientError("--file is for one client; name it instead of --all")
    records = []
    for each in CLIENTS.values():
        record = seen(each, machine)
        if record.file is None:
            record = record.model_copy(update={"action": "failed"})
        elif record.found:
            try:
                record = do(each, each.file(machine))
            except ClientError as error:
                record = record.model_copy(update={"action": "failed", "error": str(error)})
        records.append(record)
    return records


def seen(client: Client, machine: Machine) -> ClientRecord:
    """Look whether a client is here, and whether we are in its configuration."""
    from mcp_server.cli.json_results import ClientRecord  # noqa: PLC0415
    from mcp_server.clients import edit, install  # noqa: PLC0415
    from mcp_server.clients.entry import (  # noqa: PLC0415
        ClientError,
        is_ours,
    )

    record = ClientRecord(client=client.key, title=client.title, found="", file=None)
    try:
        file = client.file(machine)
        record = record.model_copy(update={"file": str(file), "found": client.found(machine)})
        servers = edit.find_entry(client.format, install.read_config_file(file).text, client.table)
    except ClientError as error:
        return record.model_copy(update={"error": str(error)})
    named = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return record.model_copy(update={"name": named[0], "entry": servers[named[0]]}) if named else record


def recorded(client: Client, machine: Machine, change: Change, check: Verification | None = None) -> ClientRecord:
    """Return what was done as a record."""
    from mcp_server.cli.json_results import ClientRecord  # noqa: PLC0415

    return ClientRecord(
        client=client.key,
        title=client.title,
        found=client.found(machine),
        file=str(change.file),
        name=change.name,
        action=change.action,
        entry=change.entry,
        backup=str(change.copy) if change.copy else None,
        check=check,
        restart=client.restart if change.action in ("added", "updated", "removed") else "",
    )


def tell(call: Call, records: list[ClientRecord], show: Callable[[InstallResult], None]) -> int:
    """Print the result; 1 when something failed."""
    from mcp_server.cli.json_results import InstallResult  # noqa: PLC0415

    good = all(each.action != "failed" and (each.check is None or each.check.verdict == "hit") for each in records)
    result = InstallResult(clients=records, complete=good)
    if call.args.json:
        console.document(result)
    else:
        show(result)
    sys.stdout.flush()
    return 0 if good else 1


def listing(result: InstallResult) -> None:
    """Show which clients are here."""
    for each in result.clients:
        state = "found" if each.found else "not found"
        has = f", has folder-mcp as {each.name!r}" if each.name else ""
        console.say(f"{each.client:<16}{state + has:<44}{each.file or ''}")
        if each.error:
            console.say(f"{'':<16}{console.plain(each.error)}")
    console.say("\nfolder-mcp install CLIENT FOLDER ..., or folder-mcp install --all FOLDER ...")


def told(result: InstallResult) -> None:
    """Show what was done."""
    missing = [each.title for each in result.clients if each.action == "none"]
    for each in result.clients:
        if each.action == "none":
            continue
        kept = f" (what it was: {each.backup})" if each.backup else ""
        what = f"{each.action} {each.name!r}, {each.file}{kept}" if each.action != "failed" else "failed"
        console.say(f"{each.title}: {what}")
        if each.error:
            console.say(f"  {console.plain(each.error)}")
        if each.check:
            console.say(f"  {console.plain(each.check.detail)}")
            if each.check.remedy:
                console.say(f"  -> {console.plain(each.check.remedy)}")
        if each.restart:
            console.say(f"  {each.restart}")
    if missing:
        console.say(f"Not found on this machine: {', '.join(missing)}")
