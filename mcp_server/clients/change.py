"""Puts our entry into a client's configuration, or takes it out: the whole of it, files included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp_server.clients import forms, kept_file
from mcp_server.clients.entry import NAME, Launch, check_name, check_words, folders_of, is_ours, launch_of
from mcp_server.clients.errors import ClientError, Unparsable
from mcp_server.clients.kept_file import Changed, Kept
from mcp_server.clients.known import Client

Action = Literal["added", "updated", "unchanged", "removed", "absent", "would add", "would update"]


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a client's configuration.

    Attributes:
        action: What.
        file: The file, links followed.
        name: The entry's name.
        entry: The entry; None where it is gone.
        copy: The copy of what the file was; None where nothing was written, or there was no file.
    """

    action: Action
    file: Path
    name: str
    entry: dict[str, Any] | None
    copy: Path | None = None


def install(client: Client, file: Path, launch: Launch, name: str | None = None, *, write: bool = True) -> Change:
    """Put our entry into a client's configuration, or bring the one that is there up to date.

    Args:
        client: Whose.
        file: Its file.
        launch: What it is to start. Where it names no folder, those of an entry that is there are kept.
        name: The entry's name; that of an entry of ours that is there, otherwise ``folder-mcp``.
        write: False to see only what would be done.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(kept_file.TRIES):
        try:
            return _explained(file, lambda: _install(client, file, launch, name, write=write))
        except Changed:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def uninstall(client: Client, file: Path, name: str | None = None) -> Change:
    """Take our entry out of a client's configuration.

    Where the file is byte for byte what ``install`` wrote, it becomes what it was before; a file that holds nothing
    but what we made is removed. Otherwise our entry alone is taken out.

    Raises:
        ClientError: It could not be done; the file is as it was.
    """
    for _ in range(kept_file.TRIES):
        try:
            return _explained(file, lambda: _uninstall(client, file, name))
        except Changed:
            continue
    raise ClientError(f"{file} is being changed all the time; close {client.title} and try again")


def snippet(client: Client, name: str, entry: dict[str, Any]) -> str:
    """Return the entry as a file of the client's would hold it that had nothing else."""
    return forms.put(client.form, "", [*client.table, name], entry)


def _install(client: Client, file: Path, launch: Launch, name: str | None, *, write: bool) -> Change:
    kept = kept_file.read(file)
    servers = forms.find(client.form, kept.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is not None and not is_ours(before):
        raise ClientError(f"{chosen!r} is there and starts something else; choose another --name")
    check_words(launch, client.expands, client.title)
    entry = client.entry(_with_folders(launch, before), chosen)
    text = forms.put(client.form, kept.text, [*client.table, chosen], entry)
    if text == kept.text:
        return Change("unchanged", kept.path, chosen, entry)
    if not write:
        return Change("would update" if before else "would add", kept.path, chosen, entry)
    copy = kept_file.replace(kept, kept.encoded(text))
    return Change("updated" if before else "added", kept.path, chosen, entry, copy)


def _uninstall(client: Client, file: Path, name: str | None) -> Change:
    kept = kept_file.read(file)
    servers = forms.find(client.form, kept.text, client.table)
    chosen = check_name(name) if name else _own_name(servers)
    before = servers.get(chosen) if isinstance(servers, dict) else None
    if before is None:
        return Change("absent", kept.path, chosen, None)
    if not is_ours(before):
        raise ClientError(f"{chosen!r} starts something else, and was left alone")
    path = [*client.table, chosen]
    data = _original(client, kept, path)
    if data is None and kept.data == forms.put(client.form, "", path, before).encode():
        kept_file.remove(kept)
        return Change("removed", kept.path, chosen, None)
    copy = kept_file.replace(kept, kept.encoded(forms.take(client.form, kept.text, path)) if data is None else data)
    return Change("removed", kept.path, chosen, None, copy)


def _original(client: Client, kept: Kept, path: list[str]) -> bytes | None:
    """Return what the file held before our entry came, if nobody else has written it since; None otherwise."""
    waiting, seen = [kept.data or b""], set[bytes]()
    while waiting:  # an entry that was brought up to date has several copies, one leading to the next
        data = waiting.pop()
        if data in seen or not data.startswith(kept.mark):
            continue
        seen.add(data)
        try:
            text = data[len(kept.mark) :].decode()
            if forms.find(client.form, text, path) is not None:
                waiting += kept_file.former(kept.path, data)
            elif forms.differ_by_entry_only(client.form, text, kept.text, path):
                return data
        except (ClientError, UnicodeDecodeError):  # somebody has changed the copy
            continue
    return None


def _own_name(servers: Any) -> str:
    """Return the name of the entry of ours, where there is one only; otherwise our own."""
    ours = [key for key, entry in servers.items() if is_ours(entry)] if isinstance(servers, dict) else []
    return ours[0] if len(ours) == 1 and NAME not in ours else NAME


def _with_folders(launch: Launch, before: Any) -> Launch:
    """Keep the folders of the entry that is there when none are named."""
    there = launch_of(before) if isinstance(before, dict) else None
    if folders_of(launch) or there is None:
        return launch
    return Launch(launch.command, (*launch.args, *folders_of(there)), launch.env, launch.cwd)


def _explained(file: Path, do: Callable[[], Change]) -> Change:
    """Do it, and name the file in what goes wrong."""
    try:
        return do()
    except Unparsable as error:
        raise ClientError(
            f"{file}, {error}. It was left as it is: correct that place, or see the entry to add by hand with --print"
        ) from error
    except Changed:
        raise
    except ClientError as error:
        if str(file) in str(error):
            raise
        raise ClientError(f"{file}: {error}") from error
