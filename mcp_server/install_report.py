"""What ``install`` and ``uninstall`` do with one client or all of them, and how they tell it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import console
from mcp_server.call import Call

if TYPE_CHECKING:
    from mcp_server.clients.change import Change
    from mcp_server.clients.known import Client
    from mcp_server.clients.machine import Machine
    from mcp_server.clients.trial import Trial
    from mcp_server.install_schema import ClientRecord, InstallResult


def each_client(call: Call, machine: Machine, do: Callable[[Client, Path], ClientRecord]) -> list[ClientRecord]:
    """Do something for the client that was named, or for every one that is here.

    With one client an error ends the command; with all of them it is told, and the others go on.
    """
    from mcp_server.clients.errors import ClientError  # noqa: PLC0415
    from mcp_server.clients.known import CLIENTS, client  # noqa: PLC0415

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
    from mcp_server.clients import forms, kept_file  # noqa: PLC0415
    from mcp_server.clients.entry import is_ours  # noqa: PLC0415
    from mcp_server.clients.errors import ClientError  # noqa: PLC0415
    from mcp_server.install_schema import ClientRecord  # noqa: PLC0415

    record = ClientRecord(client=client.key, title=client.title, found="", file=None)
    try:
        file = client.file(machine)
        record = record.model_copy(update={"file": str(file), "found": client.found(machine)})
        servers = forms.find(client.form, kept_file.read(file).text, client.table)
    except ClientError as error:
        return record.model_copy(update={"error": str(error)})
    named = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return record.model_copy(update={"name": named[0], "entry": servers[named[0]]}) if named else record


def recorded(client: Client, machine: Machine, change: Change, check: Trial | None = None) -> ClientRecord:
    """Return what was done as a record."""
    from mcp_server.install_schema import ClientRecord  # noqa: PLC0415

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
    from mcp_server.install_schema import InstallResult  # noqa: PLC0415

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
