"""``install`` and ``uninstall``: an entry in an MCP client's configuration, verified as the client would start it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from pydantic import Field

from indexer.errors import ConfigError
from indexer.folders.registry import check_folder, list_folders, resolved
from mcp_server.access.access import is_within
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.clients import edit
from mcp_server.clients.entry import NAME, ClientError, Launch, check_name, folders_of, is_ours, launch_of
from mcp_server.clients.install import Action, Change, install, read_config_file, snippet, uninstall
from mcp_server.clients.machine import Machine, is_temporary, launch_command, settings_to_pass, this_machine
from mcp_server.clients.registry import CLIENTS, Client, client
from mcp_server.clients.verify import Verification, find_samples, verify_client
from mcp_server.protocol import results
from mcp_server.protocol.results import AsRecord, Record
from mcp_server.protocol.untrusted import one_line


class ClientRecord(Record):
    """One client, and what was done with its configuration."""

    client: str = Field(description="What to type for it.")
    title: str
    found: str = Field(description="What shows that it is on this machine; empty when nothing does.")
    file: results.Path | None = Field(description="Its configuration file; null when it cannot be told.")
    name: str | None = Field(default=None, description="The entry's name.")
    action: Action | Literal["failed", "none"] = "none"
    entry: dict[str, Any] | None = Field(default=None, description="What the client starts.")
    backup: results.Path | None = Field(default=None, description="The copy of what the file was.")
    check: Annotated[Verification, AsRecord()] | None = None
    restart: str = ""
    error: str = ""


class InstallResult(Record):
    """The document of ``folder-mcp install --json`` and ``folder-mcp uninstall --json``."""

    clients: list[ClientRecord]
    complete: bool = Field(description="Nothing failed, and every check found a file.")


def run_install(call: Call) -> int:
    """``folder-mcp install CLIENT [FOLDER ...]``: write the entry, start the server as the client would, report."""
    args, machine = call.args, this_machine(call.environ)
    if args.client is None and not args.all:
        return _report(call, [_seen(each, machine) for each in CLIENTS.values()], _print_clients)
    if args.all and args.client is not None:
        args.folders.insert(0, args.client)
    started, folders = _launch(call, machine)
    if args.print:
        return _print_entries(call, started, machine)
    verified: dict[Launch, Verification] = {}

    def put_in(client: Client, file: Path) -> ClientRecord:
        change = install(client, file, started, args.name)
        check = None if args.no_check else _verify(call, client, change, folders, verified)
        return _record(client, machine, change, check)

    return _report(call, _each_client(call, machine, put_in), _print_changes)


def run_uninstall(call: Call) -> int:
    """``folder-mcp uninstall CLIENT``: take our entry out of a client's configuration, and nothing else."""
    if call.args.client is None and not call.args.all:
        raise ConfigError("which client? name one, or --all; folder-mcp install lists them")
    machine = this_machine(call.environ)

    def take_out(client: Client, file: Path) -> ClientRecord:
        return _record(client, machine, uninstall(client, file, call.args.name))

    return _report(call, _each_client(call, machine, take_out), _print_changes)


def _launch(call: Call, machine: Machine) -> tuple[Launch, list[str]]:
    """Return what clients are to start, and the folders to try a search on."""
    config, args = call.config, call.args
    known = list_folders(config).paths
    folders = [
        resolved(each)
        if args.only and any(is_within(resolved(each), root) for root in known)  # a limit may be a part
        else check_folder(each, data_dir=config.data_dir, known=known)
        for each in args.folders
    ]
    if args.only and not folders:
        raise ConfigError("--only needs the folders that the client may see: folder-mcp install CLIENT FOLDER --only")
    started = launch_command(folders, *settings_to_pass(args.config, args.data_dir, machine), only=args.only)
    if is_temporary(started.command):
        console.note(
            f"{started.command} is in uv's cache, which may be cleaned; what `uv tool install folder-mcp` makes "
            "stays: install from there"
        )
    return started, folders or list(known)


def _verify(
    call: Call, client: Client, change: Change, folders: Sequence[str], verified: dict[Launch, Verification]
) -> Verification:
    """Start what now stands in the client's file.

    Args:
        call: The command line.
        client: The client.
        change: What was written for it.
        folders: Searched where the entry names no folder.
        verified: Results by what was started: clients that start the same share one.

    Raises:
        ClientError: The entry is no longer in the file.
    """
    entry = edit.find_entry(client.format, read_config_file(change.file).text, [*client.table, change.name])
    started = launch_of(entry) if isinstance(entry, dict) else None
    if started is None:
        raise ClientError(f"{change.name!r} is gone from {change.file}: close {client.title} and try again")
    if started not in verified:
        console.note(f"starting the server as {client.title} would ...")
        files = find_samples(folders_of(started) or folders, call.config)
        verified[started] = anyio.run(verify_client, started, files, call.environ)
    return verified[started]


def _print_entries(call: Call, started: Launch, machine: Machine) -> int:
    """Show each entry and its file; nothing is written, and a file that cannot be read does not matter."""

    def show(client: Client, file: Path) -> ClientRecord:
        name = check_name(call.args.name or NAME)
        entry = client.entry(started, name)
        if not call.args.json:
            console.say(f"# {client.title}: {file}\n{snippet(client, name, entry)}")
        return ClientRecord(
            client=client.key, title=client.title, found=client.found(machine), file=str(file), name=name, entry=entry
        )

    return _report(call, _each_client(call, machine, show), lambda _: None)


def _each_client(call: Call, machine: Machine, do: Callable[[Client, Path], ClientRecord]) -> list[ClientRecord]:
    """Do something for the client that was named, or with ``--all`` for every one on this machine.

    With one client an error ends the command; with ``--all`` it is reported, and the other clients follow.
    """
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
        record = _seen(each, machine)
        if record.file is None:
            record = record.model_copy(update={"action": "failed"})
        elif record.found:
            try:
                record = do(each, each.file(machine))
            except ClientError as error:
                record = record.model_copy(update={"action": "failed", "error": str(error)})
        records.append(record)
    return records


def _seen(client: Client, machine: Machine) -> ClientRecord:
    """Return whether a client is on this machine, and our entry if its configuration has one."""
    record = ClientRecord(client=client.key, title=client.title, found="", file=None)
    try:
        file = client.file(machine)
        record = record.model_copy(update={"file": str(file), "found": client.found(machine)})
        servers = edit.find_entry(client.format, read_config_file(file).text, client.table)
    except ClientError as error:
        return record.model_copy(update={"error": str(error)})
    ours = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return record.model_copy(update={"name": ours[0], "entry": servers[ours[0]]}) if ours else record


def _record(client: Client, machine: Machine, change: Change, check: Verification | None = None) -> ClientRecord:
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


def _report(call: Call, records: list[ClientRecord], show: Callable[[InstallResult], None]) -> int:
    """Print the result, with ``show`` unless ``--json`` was given; return 1 when something failed."""
    good = all(each.action != "failed" and (each.check is None or each.check.verdict == "hit") for each in records)
    result = InstallResult(clients=records, complete=good)
    if call.args.json:
        console.json_document(result)
    else:
        show(result)
    sys.stdout.flush()
    return 0 if good else 1


def _print_clients(result: InstallResult) -> None:
    for each in result.clients:
        state = "found" if each.found else "not found"
        entry = f", has folder-mcp as {each.name!r}" if each.name else ""
        console.say(f"{each.client:<16}{state + entry:<44}{each.file or ''}")
        if each.error:
            console.say(f"{'':<16}{one_line(each.error)}")
    console.say("\nfolder-mcp install CLIENT FOLDER ..., or folder-mcp install --all FOLDER ...")


def _print_changes(result: InstallResult) -> None:
    missing = [each.title for each in result.clients if each.action == "none"]
    for each in result.clients:
        if each.action == "none":
            continue
        backup = f" (what it was: {each.backup})" if each.backup else ""
        change = f"{each.action} {each.name!r}, {each.file}{backup}" if each.action != "failed" else "failed"
        console.say(f"{each.title}: {change}")
        if each.error:
            console.say(f"  {one_line(each.error)}")
        if each.check:
            console.say(f"  {one_line(each.check.detail)}")
            if each.check.remedy:
                console.say(f"  -> {one_line(each.check.remedy)}")
        if each.restart:
            console.say(f"  {each.restart}")
    if missing:
        console.say(f"Not found on this machine: {', '.join(missing)}")
